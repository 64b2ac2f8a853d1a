#compdef snn-exp
# completion of snn-exp in zsh
_snn_exp() {
    local found what
    local -a whole half
    while IFS=$'\t' read -r found what; do
        [[ -n $found ]] || continue
        if [[ $found == *[=.] ]]; then half+=("${found//:/\\:}"); else whole+=("${found//:/\\:}${what:+:$what}"); fi
    done < <("${words[1]}" completion answer "${(@)words[2,CURRENT-1]}" "${words[CURRENT]}" 2> /dev/null)
    (( $#whole + $#half )) || { _files; return; }
    (( $#half )) && _describe -V 'choice' half -S ''
    (( $#whole )) && _describe -V 'choice' whole
}
if [[ ${funcstack[1]} == _snn-exp ]]; then _snn_exp "$@"; else
    (( $+functions[compdef] )) || { autoload -Uz compinit && compinit; }
    compdef _snn_exp snn-exp
fi
