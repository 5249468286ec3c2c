// make_system_reader() for macOS.
#if defined(__APPLE__)

#include <mach/mach.h>
#include <sys/sysctl.h>

#include "xlstm/core/errors.h"
#include "xlstm/core/str.h"
#include "xlstm/memory/memory_reader.h"

namespace xlstm {
namespace {

[[noreturn]] void unreadable(const char* call, int result) {
  fail(ExitCode::kMemory, "memory use", call, "an answer", cat("error ", result));
}

class MacReader : public MemoryReader {
 public:
  MacReader() : host_(mach_host_self()) {}
  ~MacReader() override { mach_port_deallocate(mach_task_self(), host_); }

  HostMemory read() override {
    task_vm_info_data_t task{};
    mach_msg_type_number_t task_count = TASK_VM_INFO_COUNT;
    const kern_return_t task_result =
        task_info(mach_task_self(), TASK_VM_INFO, reinterpret_cast<task_info_t>(&task), &task_count);
    if (task_result != KERN_SUCCESS) unreadable("task_info", task_result);

    uint64_t physical = 0;
    size_t size = sizeof(physical);
    if (const int result = sysctlbyname("hw.memsize", &physical, &size, nullptr, 0); result != 0) {
      unreadable("sysctl hw.memsize", result);
    }

    vm_statistics64_data_t pages{};
    mach_msg_type_number_t page_count = HOST_VM_INFO64_COUNT;
    const kern_return_t host_result =
        host_statistics64(host_, HOST_VM_INFO64, reinterpret_cast<host_info64_t>(&pages), &page_count);
    if (host_result != KERN_SUCCESS) unreadable("host_statistics64", host_result);

    HostMemory memory;
    memory.resident = task.resident_size;
    memory.used = task.phys_footprint;
    memory.limit = physical;
    memory.limit_name = "machine";
    memory.available = (uint64_t{pages.free_count} + pages.inactive_count) * vm_kernel_page_size;
    return memory;
  }

 private:
  mach_port_t host_;
};

}  // namespace

std::unique_ptr<MemoryReader> make_system_reader(const std::filesystem::path& /*root*/) {
  return std::make_unique<MacReader>();
}

}  // namespace xlstm

#endif
