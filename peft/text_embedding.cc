#include "peft/text_embedding.h"

#include "ops/ops.h"
#include "peft/surgery.h"

namespace graft {
namespace {

// The only gather of rows from the table of that name.
Node Lookup(const Graph& g, std::string_view method, const char* table) {
  const ValueId v = g.FindLeaf(table);
  if (v.valid())
    for (NodeId user : g.users(v))
      if (g.node(user).op == &kGatherRows && g.node(user).in[0] == v) return g.node(user);
  FailUsage("'{}' needs a text model with a table '{}'", method, table);
}

}  // namespace

TextEmbedding FindTextEmbedding(const Graph& g, std::string_view method) {
  const Node words = Lookup(g, method, "embed.word.weight"),
             types = Lookup(g, method, "embed.type.weight"),
             places = Lookup(g, method, "embed.position.weight");
  const UserList users = g.users(places.out[0]);
  if (users.size() != 1) FailUsage("'{}' finds other uses of the positions", method);
  return {words.in[0],  words.out[0], types.in[0],
          types.out[0], places.in[0], g.node(users[0]).out[0]};
}

ValueId FirstType(Graph& g, const TextEmbedding& e) {
  return SumRows(g, SliceRows(g, e.types, 0, 1));  // of one row, its values
}

ValueId LongerSum(Graph& g, const TextEmbedding& e, ValueId rows, ValueId longer, int64_t at) {
  const std::string before = g.scope;
  g.scope = "embed";
  const ValueId texts = Add(g, e.word_rows, e.type_rows), tokens = Add(g, rows, FirstType(g, e));
  const ValueId both = InsertTokens(g, texts, tokens, g.FindLeaf("offsets"), at);
  g.scope = "embed.position";
  const ValueId sum = AddPositions(g, both, e.positions, longer);
  g.scope = before;
  return sum;
}

ValueId RunLonger(Graph& g, const std::vector<BlockSite>& blocks, std::map<ValueId, ValueId> values,
                  ValueId longer) {
  values[g.node(blocks[0].attention).in[3]] = longer;
  return CloneWith(g, blocks.back().output, values, CloneAs::kRows);
}

void GiveRest(Graph& g, ValueId last, ValueId x, ValueId longer, int64_t at, int64_t count) {
  const UserList users = g.users(last);
  const ValueId out = DropTokens(g, x, longer, at, count);
  g.ReplaceUsesIn(last, out, users);
  g.ReplaceResult(last, out);
}

}  // namespace graft
