#!/bin/sh -e
# Take an event from `webhook`: its id, timestamp, signature and raw body. A failure is a 500.
key=$(printf %s "${POLLER_WEBHOOK_SECRET#whsec_}" | base64 -d | od -An -v -tx1 | tr -d ' \n')
ours=$(printf '%s.%s.%s' "$1" "$2" "$4" |
    openssl dgst -sha256 -mac HMAC -macopt "hexkey:$key" -binary | base64)
case " $3 " in *" v1,$ours "*) ;; *) exit 1 ;; esac
[ "$2" -gt $(($(date +%s) - 300)) ] || exit 1
printf '%s\n' "$4" >>events.jsonl
