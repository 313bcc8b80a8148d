#!/bin/sh
# Start a container's command with its secrets: where NAME_FILE is set, NAME is read from that file.
# An image, a compose file and `docker inspect` then hold no secret, only the place where one lies.
set -eu

fail() {
    printf 'error: %s\n' "$1" >&2
    exit 2
}

for name in PREFECT_SERVER_DATABASE_PASSWORD PREFECT_SERVER_API_AUTH_STRING PREFECT_API_AUTH_STRING; do
    eval "file=\${${name}_FILE:-}"
    if [ -n "$file" ]; then
        [ -r "$file" ] || fail "${name}_FILE names $file, which user $(id -u) cannot read; it must be there, with mode 444 in a folder of mode 700"
        value=$(cat "$file")
        [ -n "$value" ] || fail "$file is empty; it must hold $name (docker/.env.example says how to make one)"
        export "$name=$value"
        unset "${name}_FILE"
    fi
    eval "value=\${$name:-}"
    case $value in
        *CHANGE-ME*) fail "$name still is the placeholder CHANGE-ME; docker/.env.example says how to make a value" ;;
    esac
done

case "$*" in
    "prefect server start"*)
        # The port is published by somebody else's rule; whoever gets through it must not be let in for nothing.
        case ${PREFECT_SERVER_API_HOST:-127.0.0.1} in
            127.* | localhost | ::1) ;;
            *) case ${PREFECT_SERVER_API_AUTH_STRING:-} in
                ?*:?*) ;;
                *) fail "refusing to listen on $PREFECT_SERVER_API_HOST without an auth string 'user:password' in PREFECT_SERVER_API_AUTH_STRING or the file that PREFECT_SERVER_API_AUTH_STRING_FILE names" ;;
            esac ;;
        esac
        if [ -n "${PREFECT_SERVER_DATABASE_HOST:-}" ] && [ -z "${PREFECT_SERVER_DATABASE_PASSWORD:-}" ]; then
            fail "PREFECT_SERVER_DATABASE_HOST is set without PREFECT_SERVER_DATABASE_PASSWORD or PREFECT_SERVER_DATABASE_PASSWORD_FILE"
        fi
        ;;
esac

exec "$@"
