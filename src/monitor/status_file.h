// One process's file in the runtime folder.
#pragma once

#include <cstdint>
#include <string>

#include "xlstm/monitor/run_record.h"
#include "xlstm/monitor/runtime_dir.h"

namespace xlstm {

// "<pid>.json" is the record, ".<pid>.tmp" what becomes it.
[[nodiscard]] std::string status_file_name(int64_t pid);
[[nodiscard]] std::string temporary_file_name(int64_t pid);

// The process id of such a name; 0 for any other name.
[[nodiscard]] int64_t pid_of_status_file(const std::string& name);
[[nodiscard]] int64_t pid_of_temporary_file(const std::string& name);

// Replaces the file of record.pid: readers see the old record or the new one, never a part. The disk is not waited for.
// False, with errno set, if it could not be written; then no temporary file is left.
bool write_status_file(const PrivateDirectory& directory, const RunRecord& record);

void remove_status_file(const PrivateDirectory& directory, int64_t pid);

}  // namespace xlstm
