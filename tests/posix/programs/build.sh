#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# make -j2: builds a generated C++ project, runs it, and rebuilds exactly what a change asks for.
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "$0")/common.sh"
need make g++ ar
units=${BUILD_UNITS:-24}
cd "$dir"
mkdir src
for ((i = 0; i < units; i++)); do
    echo "int unit$i();" >"src/unit$i.h"
    cat >"src/unit$i.cc" <<END
#include <map>
#include <string>
#include <vector>
#include "unit$i.h"
int unit$i() {
    std::map<std::string, int> names{{"a", $i}, {"b", 1}};
    std::vector<int> values(names.size(), names["a"]);
    return values[0];
}
END
done
{
    for ((i = 0; i < units; i++)); do echo "#include \"unit$i.h\""; done
    echo '#include <cstdio>'
    echo 'int main() { int sum = 0;'
    for ((i = 0; i < units; i++)); do echo "sum += unit$i();"; done
    echo 'std::printf("%d", sum); }'
} >src/main.cc
cat >Makefile <<'END'
units := $(sort $(filter-out main,$(patsubst src/%.cc,%,$(wildcard src/*.cc))))
program: obj/main.o obj/libunits.a
	g++ -o $@ $^
obj/libunits.a: $(units:%=obj/%.o)
	rm -f $@ && ar rcs $@ $^
obj/%.o: src/%.cc | obj
	g++ -O1 -MMD -c -o $@ $<
obj:
	mkdir -p obj
-include $(wildcard obj/*.d)
END
make -s -j2
same $((units * (units - 1) / 2)) "$(./program)" "output of the built program"
make -q || fail "make -q after a build: expected nothing to do"
touch src/unit3.h
changed=$(make -n | grep -c -- ' -c -o ' || true)
same 2 "$changed" "files to compile after a header was touched"
make -s -j2
make -q || fail "make -q after the second build: expected nothing to do"
same $((units * (units - 1) / 2)) "$(./program)" "output after the second build"
