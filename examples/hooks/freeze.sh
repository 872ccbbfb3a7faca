#!/bin/sh
# A hook as a process, in POSIX shell: denies all tools while a file exists, and writes every event to another file.
#
#   [[hooks]]
#   name = "freeze"
#   type = "process"
#   command = ["sh", "examples/hooks/freeze.sh", "/etc/frozen", "/var/log/interject-events.jsonl"]
#   points = ["before_tool", "on_event"]
#   on_error = "closed"
#
# A request begins exactly with {"jsonrpc":"2.0","id":7,"method":"hook/before_tool", an event has no id.

frozen=$1
events=$2

answer() {
    printf '{"jsonrpc":"2.0","id":%s,"result":%s}\n' "$1" "$2"
}

while IFS= read -r line; do
    case $line in
        '{"jsonrpc":"2.0","method":"event",'*)
            printf '%s\n' "$line" >>"$events"
            continue
            ;;
    esac
    rest=${line#'{"jsonrpc":"2.0","id":'}
    id=${rest%%,*}
    rest=${rest#*'"method":"'}
    method=${rest%%'"'*}
    case $method in
        initialize) answer "$id" '{"protocol":1}' ;;
        ping) answer "$id" '{}' ;;
        hook/before_tool)
            if [ -e "$frozen" ]; then
                answer "$id" '{"decision":"deny","reason":"tools are frozen"}'
            else
                answer "$id" '{"decision":"continue"}'
            fi
            ;;
        *) answer "$id" '{"decision":"continue"}' ;;
    esac
done
