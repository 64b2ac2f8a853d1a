# completion of snn-exp in bash
_snn_exp()
{
    local line=${COMP_LINE:0:COMP_POINT} words current="" start breaks=${COMP_WORDBREAKS-} found
    read -ra words <<< "$line"
    [[ $line =~ [[:space:]]$ ]] || { current=${words[${#words[@]}-1]}; unset "words[${#words[@]}-1]"; }
    # bash replaces what stands behind the last character that ends a word, which = is and a comma is not
    start=${current%"${current##*["$breaks"]}"}
    COMPREPLY=()
    while IFS=$'\t' read -r found _; do
        [[ -n $found ]] || continue
        COMPREPLY+=("${found#"$start"}")
        [[ $found == *[=.] ]] && compopt -o nospace 2> /dev/null
    done < <("${words[0]}" completion answer "${words[@]:1}" "$current" 2> /dev/null)
}
complete -o default -F _snn_exp snn-exp
