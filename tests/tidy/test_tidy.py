#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Each rule of scripts/tidy fires on a small planted tree and is silent on a good one."""
import importlib.util
import os
import tempfile
import unittest
from importlib.machinery import SourceFileLoader

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
LOADER = SourceFileLoader("tidy", os.path.join(TOP, "scripts", "tidy"))
tidy = importlib.util.module_from_spec(importlib.util.spec_from_loader("tidy", LOADER))
LOADER.exec_module(tidy)

LICENCE = "// SPDX-License-Identifier: Apache-2.0\n"
HEADER = LICENCE + "// What this is.\n#pragma once\n\n"
SOURCE = LICENCE + "// What this is.\n"
# Words that may not stand in the tree, this file included.
TO_DO = "TO" + "DO"
HOST = "/" + "work/somewhere"

GOOD = {
    "common/base/README.md": "# common/base\n",
    "common/base/status.h": HEADER + "struct Status {\n    int code = 0;\n};\n",
    "common/env/README.md": "# common/env\n",
    "common/env/loop.h": HEADER + '#include "common/base/status.h"\n',
    "metad/raft/README.md": "# metad/raft\n",
    "metad/raft/core.h": HEADER + '#include <map>\n\n#include "common/base/status.h"\n',
    "metad/raft/core.cc": LICENCE + '#include "metad/raft/core.h"\n',
    "chunkd/store/README.md": "# chunkd/store\n",
    "chunkd/store/disk.cc": SOURCE + '#include "common/env/loop.h"\n\n'
                            "// It's fine to say that we throw nothing and never sleep_for(1).\n"
                            'const char* text() { return "throw errno {{{"; }\n',
}


class TidyTest(unittest.TestCase):
    def findings(self, changes):
        with tempfile.TemporaryDirectory() as root:
            for path, text in {**GOOD, **changes}.items():
                if text is None:
                    continue
                full = os.path.join(root, path)
                os.makedirs(os.path.dirname(full), exist_ok=True)
                with open(full, "w", encoding="utf-8") as out:
                    out.write(text)
            return tidy.findings(root)

    def fires(self, changes, path, line, part):
        found = self.findings(changes)
        self.assertTrue(
            any(f[0] == path and f[1] == line and part in f[2] for f in found),
            f"expected {path}:{line}: …{part}…, found {found}")

    def silent(self, changes):
        self.assertEqual(self.findings(changes), [])

    def test_good_tree(self):
        self.silent({})

    def test_include_matrix(self):
        bad = SOURCE + '#include "common/env/loop.h"\n'
        self.fires({"metad/raft/bad.cc": bad}, "metad/raft/bad.cc", 3,
                   "metad/raft must not include common/env")
        bad = SOURCE + '\n#include "metad/raft/core.h"\n'
        self.fires({"chunkd/store/bad.cc": bad}, "chunkd/store/bad.cc", 4, "must not include metad")
        self.fires({"common/base/bad.cc": bad}, "common/base/bad.cc", 4, "must not include")

    def test_unknown_room(self):
        self.fires({"utils/x.cc": SOURCE, "utils/README.md": "# x\n"}, "utils/x.cc", 1, "no room")

    def test_documented_exception(self):
        change = {
            "metad/consensus/README.md": "# x\n", "metad/namespace/README.md": "# x\n",
            "metad/consensus/replicated_state.h": HEADER,
            "metad/namespace/sm.cc": SOURCE + '#include "metad/consensus/replicated_state.h"\n',
        }
        self.silent(change)
        change["metad/consensus/driver.h"] = HEADER
        change["metad/namespace/sm.cc"] = SOURCE + '#include "metad/consensus/driver.h"\n'
        self.fires(change, "metad/namespace/sm.cc", 3, "must not include metad/consensus")

    def test_wrapped_libraries(self):
        for name in ("sqlite3.h", "nng/nng.h", "fuse_lowlevel.h", "nlohmann/json.hpp",
                     "flatbuffers/flatbuffers.h", "spdlog/spdlog.h"):
            bad = SOURCE + f"#include <{name}>\n"
            self.fires({"chunkd/store/bad.cc": bad}, "chunkd/store/bad.cc", 3, "belongs to")
        self.silent({"metad/namespace/README.md": "# x\n",
                     "metad/namespace/db.cc": SOURCE + "#include <sqlite3.h>\n"})

    def test_generated_headers(self):
        bad = SOURCE + '#include "schema/meta_generated.h"\n'
        self.fires({"chunkd/store/bad.cc": bad}, "chunkd/store/bad.cc", 3, "generated messages")

    def test_missing_file(self):
        bad = SOURCE + '#include "loop.h"\n'
        self.fires({"chunkd/store/bad.cc": bad}, "chunkd/store/bad.cc", 3, "no such file")

    def test_number_of_includes(self):
        headers = {f"common/base/h{n}.h": HEADER for n in range(13)}
        use = "".join(f'#include "common/base/h{n}.h"\n' for n in range(13))
        self.fires({**headers, "chunkd/store/bad.cc": SOURCE + use}, "chunkd/store/bad.cc", 1,
                   "13 project includes")
        use = "".join(f'#include "common/base/h{n}.h"\n' for n in range(12))
        headers.pop("common/base/h12.h")
        self.silent({**headers, "chunkd/store/good.cc": SOURCE + use})

    def test_purity(self):
        for name in ("thread", "chrono", "mutex", "unistd.h", "sys/stat.h"):
            bad = SOURCE + f"#include <{name}>\n"
            self.fires({"metad/raft/bad.cc": bad}, "metad/raft/bad.cc", 3, "pure code")

    def test_unordered_iteration(self):
        table = HEADER + "#include <unordered_map>\n\nstruct T {\n    std::unordered_map<int, " \
                         "std::vector<int>> rows_;\n    std::map<int, int> sorted_;\n};\n"
        loop = LICENCE + '#include "metad/raft/t.h"\n\nvoid f(T& t) {\n    ' \
                         "for (auto& [a, b] : t.NAME) use(a, b);\n}\n"
        both = {"metad/raft/t.h": table, "metad/raft/t.cc": loop.replace("NAME", "rows_")}
        self.fires(both, "metad/raft/t.cc", 5, "unordered")
        both["metad/raft/t.cc"] = loop.replace("NAME", "sorted_")
        self.silent(both)
        both["metad/raft/t.cc"] = loop.replace("for (auto& [a, b] : t.NAME) use(a, b);",
                                               "use(t.rows_.begin());")
        self.fires(both, "metad/raft/t.cc", 5, "unordered")

    def test_deterministic_sql_and_threads(self):
        bad = SOURCE + 'const char* sql = "SELECT random()";\n'
        self.fires({"metad/raft/bad.cc": bad}, "metad/raft/bad.cc", 3, "deterministic")
        bad = SOURCE + "std::thread worker;\n"
        self.fires({"metad/raft/bad.cc": bad}, "metad/raft/bad.cc", 3, "no threads")

    def test_file_length(self):
        self.fires({"chunkd/store/bad.cc": SOURCE + "int a;\n" * 599}, "chunkd/store/bad.cc", 601,
                   "601 lines")
        self.silent({"chunkd/store/good.cc": SOURCE + "int a;\n" * 598})
        self.silent({"tests/unit/long_test.cc": SOURCE + "int a;\n" * 798})
        self.fires({"tests/unit/long_test.cc": SOURCE + "int a;\n" * 799},
                   "tests/unit/long_test.cc", 801, "801 lines")
        self.fires({"metad/raft/README.md": "x\n" * 61}, "metad/raft/README.md", 61, "61 lines")

    def test_columns(self):
        self.silent({"metad/raft/x.cc": SOURCE + "// " + "x" * 97 + "\n"})
        self.fires({"metad/raft/x.cc": SOURCE + "// " + "x" * 98 + "\n"}, "metad/raft/x.cc", 3,
                   "101 columns")

    def function(self, lines, head="int f(int a) {"):
        return SOURCE + "namespace n {\n" + head + "\n" + "    a();\n" * (lines - 2) + "}\n}\n"

    def test_function_length(self):
        path = "chunkd/store/x.cc"
        self.silent({path: self.function(70)})
        self.fires({path: self.function(71)}, path, 4, "f has 71 lines, at most 70 (red zone")
        self.fires({path: self.function(76)}, path, 4, "f has 76 lines, at most 70")

    def test_function_length_of_constructors_and_methods(self):
        path = "chunkd/store/x.cc"
        constructor = "T::T(int a)\n    : a_{a}, b_(a), c_{} {"
        self.silent({path: self.function(69, constructor)})
        self.fires({path: self.function(70, constructor)}, path, 4, "T::T has 71 lines")
        method = "struct S {\n    int g(int a = {}) const noexcept {"
        text = self.function(71, method) + "};\n"
        self.fires({path: text}, path, 5, "g has 71 lines")
        template = "template <typename F>\nvoid h(F f, std::function<void()> g = [] { b(); }) {"
        self.fires({path: self.function(71, template)}, path, 4, "h has 72 lines")

    def test_functions_beside_tables_and_types(self):
        text = ("namespace n {\nconst int table[] = {\n    1,\n};\nenum class E : int { a, b };\n"
                "struct P {\n    int x{0};\n    std::vector<int> y = {1, 2};\n"
                "    int get() const { return x; }\n};\n"
                "#define M(x) { x }\nP make() {\n    return {};\n}\n}\n")
        names = [name for name, _, _ in tidy.functions(text)]
        self.assertEqual(names, ["get", "make"])

    def test_lambdas_belong_to_their_function(self):
        text = "void f() {\n    auto g = [] {\n        if (a) { b(); }\n    };\n}\nvoid h() {}\n"
        self.assertEqual(list(tidy.functions(text)), [("f", 1, 5), ("h", 6, 6)])

    def test_errno(self):
        bad = SOURCE + "int f() { return errno; }\n"
        self.fires({"chunkd/store/bad.cc": bad}, "chunkd/store/bad.cc", 3, "errno")
        self.silent({"fuse/README.md": "# x\n", "fuse/errno_map.cc": bad})
        self.silent({"common/env/posix_file_system.cc": bad})

    def test_banned(self):
        for line in ("std::this_thread::sleep_for(x);", "usleep(5);", "int a = std::rand();",
                     "std::shuffle(a, b, c);", "auto f = std::async(g);", "thread.detach();",
                     "auto t = std::chrono::steady_clock::now();", "throw 5;",
                     "void f() { try { g(); } catch (...) {} }", "using namespace std;"):
            self.fires({"chunkd/store/bad.cc": SOURCE + line + "\n"}, "chunkd/store/bad.cc", 3, ":")

    def test_digit_separators_are_no_literals(self):
        text = SOURCE + "int a = 4'096;\nint b = 1'000'000;\nint f() { throw 1; }\nchar c = 'x';\n"
        self.fires({"chunkd/store/bad.cc": text}, "chunkd/store/bad.cc", 5, "throw")

    def test_first_lines(self):
        self.fires({"chunkd/store/x.cc": "// Something.\n"}, "chunkd/store/x.cc", 1, "licence")
        self.fires({"chunkd/store/x.cc": LICENCE + "\nint a;\n"}, "chunkd/store/x.cc", 2,
                   "header comment")
        self.fires({"chunkd/store/x": "#!/bin/sh\nexit 0\n"}, "chunkd/store/x", 2, "licence")
        self.fires({"common/base/status.h": HEADER.replace("#pragma once", "")},
                   "common/base/status.h", 1, "#pragma once")

    def test_readme_per_room(self):
        self.fires({"chunkd/store/README.md": None}, "chunkd/store/README.md", 1, "README")

    def test_text(self):
        self.fires({"chunkd/store/x.cc": SOURCE + f"// {TO_DO}: more\n"}, "chunkd/store/x.cc", 3,
                   "unfinished")
        self.fires({"docs/x.md": f"# x\nin {HOST}\n"}, "docs/x.md", 2, "somebody's machine")
        self.fires({"chunkd/store/x.cc": SOURCE + "int a; \n"}, "chunkd/store/x.cc", 3, "space")
        self.fires({"chunkd/store/x.cc": SOURCE + "\tint a;\n"}, "chunkd/store/x.cc", 3, "tab")

    def test_dead_header(self):
        self.fires({"chunkd/store/dead.h": HEADER}, "chunkd/store/dead.h", 1, "nobody includes")

    def test_useless_exemption(self):
        self.addCleanup(tidy.FILE_LENGTH_EXEMPTIONS.pop, "metad/raft/core.cc")
        tidy.FILE_LENGTH_EXEMPTIONS["metad/raft/core.cc"] = "once it was long"
        with open(os.path.join(TOP, "scripts", "tidy"), encoding="utf-8") as source:
            self.fires({"scripts/tidy": source.read(), "scripts/README.md": "# x\n"},
                       "scripts/tidy", 1, "nothing needs metad/raft/core.cc")

    def test_every_rule_has_a_name_here(self):
        self.assertEqual(len(tidy.RULES), len(set(tidy.RULES)))
        listed = {name for name in dir(tidy) if name.startswith("check_")} - {"check_exemptions"}
        self.assertEqual(listed, {rule.__name__ for rule in tidy.RULES})


if __name__ == "__main__":
    unittest.main()
