#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>

#include "client/kvctl/command.h"

namespace ballast::kvctl {
namespace {

// Code points, as a terminal shows most of them: one column each.
size_t width(std::string_view text) {
  return static_cast<size_t>(std::ranges::count_if(
      text, [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_unit(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '%' || c == '/';
}

// "12", "-3.5", "1.2 MiB", "40 dB", "99%"; a cell without a value ("" or "-") fits any column, and
// so does "-inf".
bool is_number(std::string_view cell) {
  if (cell.empty() || cell == "-" || cell == "-inf") return true;
  size_t at = cell.front() == '-' || cell.front() == '+' ? 1 : 0;
  if (at == cell.size() || !is_digit(cell[at])) return false;
  while (at < cell.size() && (is_digit(cell[at]) || cell[at] == '.')) ++at;
  if (at < cell.size() && cell[at] == ' ') ++at;
  return std::ranges::all_of(cell.substr(at), is_unit);
}

struct Column {
  size_t width = 0;
  bool right = true;
};

std::vector<Column> columns_of(const Table& table) {
  size_t count = table.header.size();
  for (const auto& row : table.rows) count = std::max(count, row.size());
  std::vector<Column> columns(count);
  for (size_t i = 0; i < table.header.size(); ++i) columns[i].width = width(table.header[i]);
  for (const auto& row : table.rows)
    for (size_t i = 0; i < row.size(); ++i) {
      columns[i].width = std::max(columns[i].width, width(row[i]));
      columns[i].right = columns[i].right && is_number(row[i]);
    }
  return columns;
}

std::string line_of(const std::vector<std::string>& cells, const std::vector<Column>& columns) {
  std::string line;
  for (size_t i = 0; i < cells.size(); ++i) {
    const std::string gap(columns[i].width - width(cells[i]), ' ');
    if (i > 0) line += "  ";
    line += columns[i].right ? gap + cells[i] : cells[i] + gap;
  }
  line.erase(line.find_last_not_of(' ') + 1);
  return line + "\n";
}

// The bar's state is shared by the copies of a Progress; the last one wipes the line, so that the
// next message, an error perhaps, begins on a clean one.
class Bar {
 public:
  explicit Bar(std::string what) : what_(std::move(what)) {}
  ~Bar() {
    if (drawn_) fmt::print(stderr, "\r\x1b[K");
  }
  Bar(const Bar&) = delete;
  Bar& operator=(const Bar&) = delete;

  void show(uint64_t done, uint64_t total) {
    const auto now = std::chrono::steady_clock::now();
    if (total == 0 || (drawn_ && now - last_ < std::chrono::milliseconds(100))) return;
    last_ = now;
    drawn_ = true;
    constexpr size_t kCells = 24;
    const double share = std::min(1.0, static_cast<double>(done) / static_cast<double>(total));
    const auto full = static_cast<size_t>(share * kCells);
    const double seconds = std::chrono::duration<double>(now - start_).count();
    const double rate = seconds > 0 ? static_cast<double>(done) / seconds : 0;
    std::string end;
    if (rate > 0 && done < total)
      end = fmt::format(", {:.0f} s left", static_cast<double>(total - done) / rate);
    fmt::print(stderr, "\r{} [{}{}] {:3.0f}%  {} of {}, {}/s{}\x1b[K", what_,
               std::string(full, '#'), std::string(kCells - full, '.'), share * 100,
               human_bytes(done), human_bytes(total), human_bytes(static_cast<uint64_t>(rate)),
               end);
    std::fflush(stderr);
  }

 private:
  std::string what_;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  std::chrono::steady_clock::time_point last_;
  bool drawn_ = false;
};

}  // namespace

void Table::print() const {
  const std::vector<Column> columns = columns_of(*this);
  if (!header.empty()) fmt::print("{}", line_of(header, columns));
  for (const auto& row : rows) fmt::print("{}", line_of(row, columns));
}

void print_json(const nlohmann::ordered_json& value) {
  // Names come from the store and are UTF-8; should one not be, a replaced character is better
  // than no answer.
  fmt::print("{}\n", value.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace));
}

std::string human_bytes(uint64_t bytes) {
  constexpr std::array kUnits = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  if (bytes < 1024) return fmt::format("{} B", bytes);
  double value = static_cast<double>(bytes) / 1024;
  size_t unit = 0;
  // 1023.95 would be shown as 1024.0.
  while (value >= 1023.95 && unit + 1 < kUnits.size()) {
    value /= 1024;
    ++unit;
  }
  return fmt::format("{:.1f} {}", value, kUnits[unit]);
}

client::Progress progress_bar(std::string what) {
  if (::isatty(STDERR_FILENO) == 0) return {};
  return [bar = std::make_shared<Bar>(std::move(what))](uint64_t done, uint64_t total) {
    bar->show(done, total);
  };
}

}  // namespace ballast::kvctl
