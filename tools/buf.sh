#!/usr/bin/env bash
# Runs buf, fetched once from npm into .cache/buf as tools/buf/package-lock.json pins it.
#
# Where it cannot be had (no npm, no network) this says so and succeeds, unless XINSTRUCT_REQUIRE names buf.
set -euo pipefail
cd "$(dirname "$0")/.."
home=.cache/buf

binary() {
    local path
    for path in "$home"/node_modules/@bufbuild/buf-*/bin/buf; do
        [ ! -x "$path" ] || { echo "$path"; return; }
    done
}

missing() {
    echo "buf: NOT CHECKED: $1" >&2
    case ",${XINSTRUCT_REQUIRE:-}," in *,buf,*) exit 1 ;; esac
    exit 0
}

if ! cmp -s tools/buf/package-lock.json "$home/package-lock.json" || [ -z "$(binary)" ]; then
    command -v npm >/dev/null || missing "npm is not installed, and buf comes from there"
    rm -rf "$home"
    mkdir -p "$home"
    cp tools/buf/.npmrc tools/buf/package.json tools/buf/package-lock.json "$home/"
    (cd "$home" && npm ci --loglevel=error >/dev/null) || { rm -rf "$home"; missing "npm could not fetch it"; }
    [ -n "$(binary)" ] || missing "npm has no build of it for this machine"
fi
"$(binary)" "$@"
