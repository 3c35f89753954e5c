#!/usr/bin/env bash
# Runs the implementation in Go against the vectors, the product's evidence files and the product's ratchet.
# Needs Go 1.26, `npm ci` and `npm run build`; ends with "N passed, N failed" and fails when anything failed. What is
# missing is a failure too, Go included: without it nothing was compared, and a run that says so must not look green.
# Only the Wycheproof files may be absent; they are no part of the project.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)

stop() {
  echo "interop/go: $1"
  echo "0 passed, 1 failed"
  exit 1
}

command -v go >/dev/null || stop "Go is missing: install Go 1.26 or newer and put it in PATH"
node="$root/node_modules/.bin/node"
[ -x "$node" ] || node=$(command -v node) || stop "Node 24 is missing: run npm ci"
[ -e "$root/libs/merkle-log/dist/evidence-verify.js" ] && [ -e "$root/libs/ratchet/dist/pqxdh.js" ] || stop "the product is not built: run npm run build"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cd "$here"
echo "$(go version), node $("$node" --version)"
echo "building interop/go (modules are checked against go.sum)"
go build -mod=readonly -buildvcs=false -o "$work/interop" . || stop "the Go program does not build (Go 1.26 and the module proxy are needed)"
go vet ./... || stop "go vet"

echo "evidence files by the product"
"$node" make-evidence.mts "$work" || stop "make-evidence.mts"

echo "verify-evidence of a genuine file, and of the same file with another index"
"$work/interop" verify-evidence "$work/genuine.json" || stop "a genuine evidence file was refused"
sed '0,/"index": 3/s//"index": 4/' "$work/genuine.json" > "$work/changed.json"
if "$work/interop" verify-evidence "$work/changed.json" > "$work/changed.out"; then stop "a changed evidence file was accepted"; fi
grep '^FAIL' "$work/changed.out"

echo "vectors, signatures, evidence files, conversations with the product"
corpora=${TALLYSTICK_CORPORA:-$root/../shared/corpora}
"$work/interop" check "$root/docs/spec/vectors" "$work/cases.jsonl" "$corpora" "$node" "$here/product-peer.mts"
