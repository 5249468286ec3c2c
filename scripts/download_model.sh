#!/usr/bin/env bash
# Downloads a checkpoint from the Hugging Face hub with curl:
#   ./scripts/download_model.sh OWNER/NAME [--revision REV] [--to DIR] [--yes] [--dry-run] [--token-file FILE] [--base-url URL]
#
#   --revision REV     branch, tag or commit; main unless given
#   --to DIR           where to; models/NAME in the current folder unless given
#   --yes              fetch more than 1 GB without asking; needed for that when standard input is no terminal
#   --dry-run          only list the files, their sizes and the free space
#   --token-file FILE  access token for gated models; ~/.cache/huggingface/token, where there is one, unless given
#   --base-url URL     another server with the hub's interface; it gets a token only with --token-file
#
# It fetches what the executable reads: configuration, tokenizer and safetensors, no second copies in other formats.
# Run again, it goes on where it stopped: partial files are NAME.part, and a file gets its name when its size and checksum
# are right. The listing and the command to run next go to stdout, everything else to stderr.
# Exit codes: 0 done, 2 command line, 3 repository or network, 6 the files could not be written, 130 and 143 signals.
set -euo pipefail
# shellcheck source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

HUB=https://huggingface.co
ASK_ABOVE=1000000000  # bytes
ATTEMPTS=5            # without a byte of progress

# fail CODE MESSAGE
fail() {
  printf 'error: %s\n' "$2" >&2
  exit "$1"
}

usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p;}' "${BASH_SOURCE[0]}"; }

repo="" revision=main directory="" base=$HUB token_file="" yes=0 dry_run=0
while (($# > 0)); do
  case $1 in
    --revision | --to | --base-url | --token-file)
      if (($# < 2)) || [[ -z $2 ]]; then fail 2 "$1 (command line): expected a value, got none"; fi
      case $1 in
        --revision) revision=$2 ;;
        --to) directory=$2 ;;
        --base-url) base=${2%/} ;;
        --token-file) token_file=$2 ;;
      esac
      shift
      ;;
    --yes | -y) yes=1 ;;
    --dry-run) dry_run=1 ;;
    -h | --help)
      usage
      exit 0
      ;;
    -*) fail 2 "$1 (command line): expected a flag of $(basename "$0") (--help lists them), got another" ;;
    *)
      if [[ -n $repo ]]; then fail 2 "repository (command line): expected one, got $repo and $1"; fi
      repo=$1
      ;;
  esac
  shift
done

# Both become parts of paths and URLs.
if ! [[ $repo =~ ^[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*$ ]]; then
  fail 2 "repository (command line): expected OWNER/NAME, for example NX-AI/xLSTM-7b, got ${repo:-none}"
fi
if ! [[ $revision =~ ^[A-Za-z0-9][A-Za-z0-9._/-]*$ ]] || [[ $revision == *..* ]]; then
  fail 2 "--revision (command line): expected a branch, tag or commit, got $revision"
fi
if ! [[ $base =~ ^https?://[^[:space:]]+$ ]]; then
  fail 2 "--base-url (command line): expected an http or https address, got $base"
fi
directory=${directory:-models/${repo#*/}}
if [[ -e $directory && ! -d $directory ]]; then fail 2 "--to ($directory): expected a folder, got a file"; fi
# A leading - would be a flag for other programs.
if [[ $directory == -* ]]; then directory=./$directory; fi
command -v curl >/dev/null 2>&1 || fail 2 "curl (this machine): expected it to be installed, got none"
command -v python3 >/dev/null 2>&1 || fail 2 "python3 (this machine): expected it to be installed, got none"

work=$(mktemp -d) || fail 6 "temporary folder (${TMPDIR:-/tmp}): expected a place to write to, got none"
curl_pid=""
finish() {
  if [[ -n $curl_pid ]]; then kill "$curl_pid" 2>/dev/null || true; fi
  rm -rf "$work"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# The token reaches curl in a file that only this user can read: command lines are public on a machine.
# curl does not pass it on to the storage hosts that the hub redirects to.
header=()
if [[ -z $token_file && $base == "$HUB" && -r ${HOME:-}/.cache/huggingface/token ]]; then
  token_file=$HOME/.cache/huggingface/token
fi
if [[ -n $token_file ]]; then
  [[ -f $token_file && -r $token_file ]] || fail 2 "--token-file ($token_file): expected a readable file, got none"
  token=$(tr -d '[:space:]' <"$token_file")
  [[ $token =~ ^[A-Za-z0-9_.-]+$ ]] || fail 2 "--token-file ($token_file): expected an access token, got something else"
  (umask 077 && printf 'Authorization: Bearer %s\n' "$token" >"$work/header")
  header=(--header "@$work/header")
fi

# fetch OUTPUT URL [curl options]: one attempt. Sets status to the HTTP status (000 without an answer) and code to curl's
# exit code. curl runs beside this shell, so that a signal ends both at once.
fetch() {
  local output=$1 url=$2 quiet=(--silent)
  shift 2
  if [[ -t 2 && $output != "$work"/* ]]; then quiet=(--progress-bar); fi
  code=0
  curl "${quiet[@]}" --fail --location --globoff --connect-timeout 20 --speed-limit 1000 --speed-time 60 \
    ${header[@]+"${header[@]}"} "$@" --output "$output" --write-out '%{http_code}' "$url" >"$work/status" </dev/null &
  curl_pid=$!
  wait "$curl_pid" || code=$?
  curl_pid=""
  status=$(cat "$work/status")
}

# refuse_status STATUS WHERE: the end of a request that makes no sense to repeat.
refuse_status() {
  case $1 in
    401 | 403) fail 3 "repository ($2): expected one that exists and may be read, got HTTP $1; gated models need \
--token-file and the owner's permission" ;;
    404) fail 3 "repository ($2): expected a repository and revision that exist, got HTTP 404" ;;
    4*) if [[ $1 != 408 && $1 != 416 && $1 != 429 ]]; then fail 3 "repository ($2): expected an answer, got HTTP $1"; fi ;;
  esac
}

# why CURL_EXIT STATUS: what went wrong, in words.
why() {
  case $1 in
    5 | 6 | 7) echo "no connection; is this machine offline?" ;;
    18 | 52 | 55 | 56) echo "a connection that broke off" ;;
    22) echo "HTTP $2" ;;
    28) echo "no answer in time" ;;
    35 | 51 | 58 | 60 | 77) echo "no trusted TLS connection" ;;
    *) echo "curl's exit code $1" ;;
  esac
}

size_of() { if [[ -f $1 ]]; then wc -c <"$1" | tr -d ' '; else echo 0; fi; }

fetch_listing() {
  fetch "$work/listing" "$base/api/models/$repo/tree/${revision//\//%2F}?recursive=true" \
    --dump-header "$work/headers" --max-filesize 100000000 --retry 3
  refuse_status "$status" "$repo at $revision"
  if ((code != 0)); then fail 3 "file listing ($base): expected an answer, got $(why $code "$status")"; fi
  # The hub lists a thousand files at a time; no checkpoint of this kind has as many.
  if grep -qi '^link:.*rel="next"' "$work/headers"; then
    fail 3 "file listing ($repo): expected at most one page of files, got more"
  fi
}

# fetch_file SIZE URL_PATH PART: until PART has SIZE bytes. What is there already is not fetched again.
fetch_file() {
  local size=$1 url part=$3 attempt=0 before after
  url=$base/$repo/resolve/${revision//\//%2F}/$2
  if (($(size_of "$part") > size)); then rm -f "$part"; fi
  while (($(size_of "$part") < size)) || [[ ! -f $part ]]; do
    before=$(size_of "$part")
    if ((size == 0)); then
      : >"$part"
      break
    elif ((before > 0)); then
      fetch "$part" "$url" --continue-at -
    else
      fetch "$part" "$url"
    fi
    if ((code == 0)); then
      if (($(size_of "$part") == size)); then break; fi
      rm -f "$part"
      fail 3 "${part%.part} ($repo): expected $size bytes as listed, got another file"
    fi
    if ((code == 23)); then fail 6 "$part: expected to write it, got a full disk or no permission"; fi
    refuse_status "$status" "$repo at $revision"
    # A server without ranges, or a partial file that it has no continuation of: from the beginning.
    if ((code == 33)) || [[ $status == 416 ]]; then rm -f "$part"; fi
    after=$(size_of "$part")
    attempt=$((after > before ? 1 : attempt + 1))
    if ((attempt >= ATTEMPTS)); then
      fail 3 "${part%.part} ($base): expected $size bytes, got $after, then $(why $code "$status"); \
the same command goes on from there"
    fi
    say "$(why $code "$status"); trying again"
    sleep $((attempt < 4 ? attempt : 4))
  done
}

# One file: fetched, checked and put in its place.
install_file() {
  local size=$1 algorithm=$2 digest=$3 url_path=$4 name=$5 part resumed
  part=$directory/$name.part
  resumed=$(size_of "$part")
  say "fetching $name"
  fetch_file "$size" "$url_path" "$part"
  if ! python3 "$ROOT/scripts/hub_files.py" verify "$part" "$size" "$algorithm" "$digest"; then
    rm -f "$part"
    # The beginning may be that of an earlier revision's file.
    if ((resumed > 0)); then
      say "$name has changed since it was begun; fetching it from the start"
      fetch_file "$size" "$url_path" "$part"
    fi
  fi
  if [[ ! -f $part ]] || ! python3 "$ROOT/scripts/hub_files.py" verify "$part" "$size" "$algorithm" "$digest"; then
    rm -f "$part"
    fail 3 "$directory/$name ($repo): expected the checksum that the hub lists, got another; nothing was kept"
  fi
  # Into a folder of that name mv would move it.
  [[ ! -d $directory/$name ]] || fail 6 "$directory/$name: expected a place for the file, got a folder"
  mv -f "$part" "$directory/$name" || fail 6 "$directory/$name: expected to write it, got no permission"
}

fetch_listing
python3 "$ROOT/scripts/hub_files.py" plan "$work/listing" "$repo" "$directory" "$work/tasks"
{ read -r to_fetch free; } <"$work/tasks"
if ((dry_run)); then exit 0; fi
if ((to_fetch > free)); then
  fail 6 "disk space ($directory): expected $((to_fetch / 1000000)) MB free, got $((free / 1000000)) MB"
fi
if ((to_fetch > ASK_ABOVE && !yes)); then
  if [[ ! -t 0 ]]; then
    fail 2 "--yes (command line): expected it for a download of $((to_fetch / 1000000)) MB without a terminal, got none"
  fi
  printf 'Fetch %s MB? [y/N] ' $((to_fetch / 1000000)) >&2
  answer=""
  read -r answer || true
  case $answer in
    y | Y | yes | Yes) ;;
    *) fail 2 "download (terminal): expected y, got ${answer:-nothing}" ;;
  esac
fi
mkdir -p "$directory" 2>/dev/null || fail 6 "$directory: expected a folder to write to, got no permission"
[[ -w $directory ]] || fail 6 "$directory: expected a folder to write to, got no permission"
while IFS=$'\t' read -r size algorithm digest url_path name; do
  install_file "$size" "$algorithm" "$digest" "$url_path" "$name" </dev/null
done < <(tail -n +2 "$work/tasks")
say "$repo is complete in $directory"
printf '%s -m %q -p "Once upon a time"\n' "$(dirname "$0")/generate.sh" "$directory"
