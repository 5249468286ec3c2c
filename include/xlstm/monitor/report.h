// The monitor's answers for scripts and pipes.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "xlstm/monitor/reader.h"

namespace xlstm {

inline constexpr const char* kNoProcess = "no xlstm_generate process is running";

// One line per process under a line of headings, columns as wide as their widest text; kNoProcess if there is none.
[[nodiscard]] std::string table_text(const Look& look);

// {"time": …, "processes": [{every member of RunRecord, "silent_s": …}, …]}
[[nodiscard]] nlohmann::ordered_json look_json(const Look& look);

// "57%" of what the phase has to do, or the count where its end is not known.
[[nodiscard]] std::string progress_text(const RunRecord& record);

// "81 of 128 tokens", "1.2 GB of 3.0 GB", "4 trials"
[[nodiscard]] std::string done_text(const RunRecord& record);

// Part of the phase that is done, 0…1; 0 where its end is not known.
[[nodiscard]] double done_share(const RunRecord& record);

[[nodiscard]] std::string size_text(double mb);      // "1.2 GB"
[[nodiscard]] std::string speed_text(double tok_s);  // three figures or so: "0.42", "12.3", "1234"

}  // namespace xlstm
