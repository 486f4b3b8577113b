/* The tests of the emulator: without arguments all of them; `speed` tells what
   kernels cost here; `planted NAME` runs one kernel that
   ends the process (a sanitizer's report, an access by the host), for a test that reads what it
   says. */
#include "common.h"
#include <cstring>

int main(int argc, char **argv) {
    if (argc == 3 && strcmp(argv[1], "planted") == 0) return run_planted(argv[2]);
    if (argc == 2 && strcmp(argv[1], "speed") == 0) {
        report_speed();
        return 0;
    }
    std::vector<CMUnitTest> tests;
    for (const auto &list : {tests_of_values(), tests_of_streams(), tests_of_faults()})
        tests.insert(tests.end(), list.begin(), list.end());
    return _cmocka_run_group_tests("cuda_emulator", tests.data(), tests.size(), nullptr, nullptr);
}
