// Order statistics of measurements.
#pragma once

#include <vector>

namespace xlstm {

// The value below which a share of the values lies, by linear interpolation between the sorted values; values must not
// be empty (asserted).
[[nodiscard]] double quantile(std::vector<double> values, double share);

[[nodiscard]] double median(std::vector<double> values);

}  // namespace xlstm
