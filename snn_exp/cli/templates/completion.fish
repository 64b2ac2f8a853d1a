# completion of snn-exp in fish
function __snn_exp
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -l found ($words[1] completion answer $words[2..-1] "$current" 2> /dev/null)
    if test (count $found) -gt 0
        printf '%s\n' $found
    else
        __fish_complete_path "$current"
    end
end
complete -c snn-exp -f -a '(__snn_exp)'
