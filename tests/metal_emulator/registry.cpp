#include "registry.h"

#include <algorithm>
#include <map>
#include <regex>
#include <set>
#include <sstream>

#include "emulator.h"

namespace xlstm::emulator {
namespace {

std::string without_comments(const std::string& text) {
  std::istringstream lines(text);
  std::string result;
  for (std::string line; std::getline(lines, line);) result += line.substr(0, line.find("//")) + '\n';
  return result;
}

// The functions that a text defines as kernels. Throws if the [[buffer(n)]] of one do not stand at positions n.
std::set<std::string> kernel_functions(const std::string& code) {
  static const std::regex kKernel(R"(\[\[kernel\]\]\s+void\s+(\w+)\s*\()");
  static const std::regex kBuffer(R"(\[\[buffer\((\d+)\)\]\])");
  std::set<std::string> functions;
  for (auto it = std::sregex_iterator(code.begin(), code.end(), kKernel); it != std::sregex_iterator(); ++it) {
    const std::string name = (*it)[1];
    const auto begin = static_cast<size_t>(it->position() + it->length());
    const size_t end = code.find("XLSTM_THREAD", begin);
    if (end == std::string::npos) throw Fault("kernel " + name + ": no XLSTM_THREAD at the end of its parameters");
    const std::string parameters = code.substr(begin, end - begin);
    int position = 0;
    for (auto at = std::sregex_iterator(parameters.begin(), parameters.end(), kBuffer); at != std::sregex_iterator();
         ++at, ++position) {
      if (std::stoi((*at)[1]) != position) {
        throw Fault("kernel " + name + ": " + at->str() + " stands at position " + std::to_string(position));
      }
    }
    if (std::count(parameters.begin(), parameters.end(), ',') != position) {
      throw Fault("kernel " + name + ": a parameter has no [[buffer(n)]]");
    }
    functions.insert(name);
  }
  return functions;
}

}  // namespace

std::vector<CompiledKernel>& compiled_kernels() {
  static std::vector<CompiledKernel> kernels;
  return kernels;
}

void Registration::add(CompiledKernel kernel) {
  compiled_kernels().push_back(std::move(kernel));
}

std::vector<const CompiledKernel*> kernels_of(const std::string& text) {
  const std::set<std::string> functions = kernel_functions(without_comments(text));
  std::map<std::string, std::vector<const CompiledKernel*>> files;
  for (const CompiledKernel& kernel : compiled_kernels()) files[kernel.file].push_back(&kernel);
  for (const auto& [file, kernels] : files) {
    std::set<std::string> compiled;
    for (const CompiledKernel* kernel : kernels) compiled.insert(kernel->source_name);
    if (compiled == functions) return kernels;
  }
  std::string names;
  for (const std::string& name : functions) names += " " + name;
  throw Fault("shader with the kernels" + names + ": no file with just these was compiled into this program");
}

}  // namespace xlstm::emulator
