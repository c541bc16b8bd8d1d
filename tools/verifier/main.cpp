// SPDX-License-Identifier: Apache-2.0
//
// Loads a BPF object and prints what the verifier had to do for each of its programs: for the build, which
// runs it on what it has linked. Where nothing may be loaded it says so, and the build goes on.
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>

#include "tools/verifier/program_cost.h"

namespace {

// Tables whose size is a matter of configuration: the verifier does not look at it.
constexpr uint32_t kTableSize = 64;

std::string first_warning;

int KeepFirstWarning(enum libbpf_print_level level, const char* format, va_list args) {
  if (level != LIBBPF_WARN || !first_warning.empty()) return 0;
  char line[512];
  vsnprintf(line, sizeof(line), format, args);
  first_warning = line;
  return 0;
}

// Why this process cannot load anything; empty when it can.
std::string WhyNot() {
  const int map = bpf_map_create(BPF_MAP_TYPE_ARRAY, "hg_probe", 4, 4, 1, nullptr);
  if (map < 0) return std::string("bpf(2): ") + std::strerror(errno);
  close(map);
  return geteuid() == 0 ? "" : "not root";
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: %s OBJECT\n", argv[0]);
    return 2;
  }
  libbpf_set_print(KeepFirstWarning);
  if (const std::string why = WhyNot(); !why.empty()) {
    std::printf("verifier: not asked, because programs cannot be loaded here (%s); as root: %s %s\n", why.c_str(),
                argv[0], argv[1]);
    return 0;
  }
  const std::unique_ptr<bpf_object, decltype(&bpf_object__close)> object(bpf_object__open_file(argv[1], nullptr),
                                                                         &bpf_object__close);
  if (!object) {
    std::fprintf(stderr, "cannot open %s: %s\n%s", argv[1], std::strerror(errno), first_warning.c_str());
    return 1;
  }
  bpf_map* map = nullptr;
  bpf_object__for_each_map(map, object.get()) {
    if (bpf_map__max_entries(map) == 0) bpf_map__set_max_entries(map, kTableSize);
  }
  const auto start = std::chrono::steady_clock::now();
  if (const int error = bpf_object__load(object.get()); error != 0) {
    // Another kernel than the one it is built for may be running: tests are to say whether that
    // is wrong.
    std::printf("verifier: this kernel refuses %s: %s\n%s", argv[1], std::strerror(-error), first_warning.c_str());
    return 0;
  }
  const std::chrono::duration<double> load = std::chrono::steady_clock::now() - start;
  std::printf("%s\n", headgate::CostHeading().c_str());
  bpf_program* program = nullptr;
  bpf_object__for_each_program(program, object.get()) {
    const auto cost = headgate::CostOfProgram(bpf_program__fd(program));
    if (cost) std::printf("%s\n", headgate::CostLine(*cost).c_str());
  }
  std::printf("loaded in %.2f s\n", load.count());
  return 0;
}
