// A profile as one HTML page: roofline, kinds of nodes, every node.
#pragma once
#include <optional>

#include "tools/profiles/numerics.h"
#include "tools/reports/page.h"

namespace graft {

Page ProfilePage(const ProfileWork& work, const Profile& profile, const MachineFacts& machine,
                 const std::vector<std::string>& warnings, const std::optional<Numerics>& numerics);

}  // namespace graft
