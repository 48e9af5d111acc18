#!/bin/sh -e
# Take an event that `webhook` has found genuine: its raw body.
printf '%s\n' "$1" >>events.jsonl
