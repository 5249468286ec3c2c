#!/usr/bin/env bash
# Installs what the build needs and this machine lacks: packages from apt or Homebrew, and libtorch (the PyPI wheel of
# torch, used from C++ alone) into .deps/. Run again, it finds everything in place and does nothing.
#
# A libtorch >= 2.6 of your own is used instead if XLSTM_LIBTORCH names its folder or CMAKE_PREFIX_PATH leads to it.
set -euo pipefail
# shellcheck source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

TOOLS="cmake ninja python3"
OPTIONAL_TOOLS="ccache"  # saves time; without it the build works too
APT_LIBRARIES="nlohmann-json3-dev libcli11-dev libspdlog-dev libgtest-dev libgmock-dev libpcre2-dev libutf8proc-dev
  libhwy-dev libbenchmark-dev libncurses-dev"
BREW_LIBRARIES="nlohmann-json cli11 spdlog googletest pcre2 utf8proc highway google-benchmark"

has() { command -v "$1" >/dev/null 2>&1; }
has_pip() { python3 -m pip --version >/dev/null 2>&1; }

as_root() {
  if ((EUID == 0)); then "$@"; else sudo "$@"; fi
}

# Quiet on success; on failure prints the end of the output.
quietly() {
  local log
  log=$(mktemp)
  if ! "$@" >"$log" 2>&1 </dev/null; then
    tail -n 15 "$log" >&2
    rm -f "$log"
    return 1
  fi
  rm -f "$log"
}

apt_get() {
  as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o DPkg::Lock::Timeout=300 "$@"
}

missing_apt_packages() {
  local tool package installed
  for tool in $TOOLS; do
    if ! has "$tool"; then
      case $tool in
        ninja) echo ninja-build ;;
        *) echo "$tool" ;;
      esac
    fi
  done
  if ! has c++ && ! has g++; then echo g++; fi
  if ((needs_torch)) && ! has_pip; then echo python3-pip; fi
  # shellcheck disable=SC2086  # a list of words
  installed=$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' $APT_LIBRARIES 2>/dev/null || true)
  for package in $APT_LIBRARIES; do
    if [[ $'\n'$installed$'\n' != *$'\n'"installed $package"$'\n'* ]]; then echo "$package"; fi
  done
}

install_apt_packages() {
  local missing tool
  missing=$(missing_apt_packages | tr '\n' ' ')
  for tool in $OPTIONAL_TOOLS; do
    if ! has "$tool" && { [[ -n $missing ]] || ((EUID == 0)) || sudo -n true 2>/dev/null; }; then missing+="$tool "; fi
  done
  missing=${missing% }
  if [[ -z $missing ]]; then return; fi
  if ((EUID != 0)) && ! has sudo; then
    die "packages are missing and neither root nor sudo is at hand; have an administrator run: apt-get install $missing"
  fi
  say "installing with apt: $missing"
  # The lists may be absent (a container) or too old (a package has moved): then they are fetched and it is tried again.
  # shellcheck disable=SC2086  # a list of words
  if ! apt_get install --no-install-recommends $missing >/dev/null 2>&1 </dev/null; then
    quietly apt_get update || die "apt-get update failed; see above"
    quietly apt_get install --no-install-recommends $missing || die "apt-get install $missing failed; see above"
  fi
}

install_brew_packages() {
  local tool package missing="" installed
  has brew || die "Homebrew (https://brew.sh) is needed to install: $TOOLS ccache $BREW_LIBRARIES"
  xcode-select -p >/dev/null 2>&1 || die "the compiler is missing; run: xcode-select --install"
  for tool in $TOOLS ccache; do
    if ! has "$tool"; then
      case $tool in
        python3) missing+=" python" ;;
        *) missing+=" $tool" ;;
      esac
    fi
  done
  # The folders of installed formulas, without the second that brew itself takes to start.
  installed=$(ls "$(dirname "$(dirname "$(command -v brew)")")/opt" 2>/dev/null || true)
  for package in $BREW_LIBRARIES; do
    if [[ $'\n'$installed$'\n' != *$'\n'"$package"$'\n'* ]]; then missing+=" $package"; fi
  done
  missing=${missing# }
  if [[ -z $missing ]]; then return; fi
  say "installing with Homebrew: $missing"
  # shellcheck disable=SC2086  # a list of words
  HOMEBREW_NO_INSTALL_CLEANUP=1 quietly brew install --quiet $missing || die "brew install $missing failed; see above"
}

# Which wheels hold libtorch's CPU libraries and all that they are linked against.
wheel_requirements() {
  echo "torch==$TORCH_VERSION"
  if [[ $(uname -s) == Linux ]]; then
    echo "nvidia-cuda-runtime==13.0.*"
    echo "nvidia-cuda-cupti==13.0.*"
  fi
}

install_torch() {
  local platform partial old wanted_mb=2600 free_mb python=python3 requirements=() line
  platform="$(uname -s)-$(uname -m)"
  case $platform in
    Linux-x86_64 | Linux-aarch64 | Darwin-arm64) ;;
    *) die "libtorch ($platform): expected Linux on x86_64 or aarch64 or macOS on arm64 for the wheel of torch \
$TORCH_VERSION; name a libtorch >= 2.6 of your own with XLSTM_LIBTORCH" ;;
  esac
  if [[ $platform == Darwin-arm64 ]]; then wanted_mb=800; fi
  mkdir -p "$DEPS_DIR"
  # What an interrupted run left behind; folders of running ones carry a living process id.
  for old in "$DEPS_DIR"/partial-*; do
    if [[ -d $old ]] && ! kill -0 "${old##*-}" 2>/dev/null; then rm -rf "$old"; fi
  done
  free_mb=$(($(df -Pk "$DEPS_DIR" | awk 'NR == 2 {print $4}') / 1024))
  if ((free_mb < wanted_mb)); then die "disk space ($DEPS_DIR): expected $wanted_mb MB free for libtorch, got $free_mb MB"; fi

  partial=$DEPS_DIR/partial-$$
  mkdir "$partial"
  # shellcheck disable=SC2064  # the path of now
  trap "rm -rf '$partial'" EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
  if ! has_pip; then
    python3 -m venv "$partial/venv" >/dev/null 2>&1 || die "pip for python3 is missing; install it (python3-pip)"
    python=$partial/venv/bin/python3
  fi
  while read -r line; do requirements+=("$line"); done < <(wheel_requirements)
  say "installing libtorch $TORCH_VERSION into ${TORCH_DIR#"$ROOT"/} (a download of some 100s of MB)"
  # The wheel's C++ libraries are the same for every Python, so the version of this machine's does not matter.
  mkdir "$partial/tmp"
  if ! TMPDIR=$partial/tmp quietly "$python" -m pip install --quiet --no-input --no-deps --no-compile \
    --disable-pip-version-check --only-binary=:all: --python-version 3.12 --target "$partial/torch" "${requirements[@]}"; then
    die "libtorch could not be installed with pip; see above. Any libtorch >= 2.6 can be named with XLSTM_LIBTORCH"
  fi
  is_libtorch "$partial/torch/torch" || die "torch $TORCH_VERSION: expected include/ and lib/ in the wheel, got none"
  # A rename: the folder is there completely or not at all. Another run may have been first.
  if [[ ! -d $TORCH_DIR ]]; then mv "$partial/torch" "$TORCH_DIR"; fi
}

named=$(named_libtorch)
needs_torch=0
if [[ -z $named && ! -d $TORCH_DIR ]]; then needs_torch=1; fi

case $(uname -s) in
  Darwin) install_brew_packages ;;
  *)
    if has dpkg-query && has apt-get; then
      install_apt_packages
    else
      say "no apt here; these must be installed already: a C++20 compiler, $TOOLS, and the libraries that README.md lists"
    fi
    ;;
esac
if ((needs_torch)); then install_torch; fi
