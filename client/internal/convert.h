// Between the client's types and the messages'.
#pragma once

#include "client/client.h"
#include "proto/service.pb.h"
#include "proto/storage.pb.h"

namespace ballast::client {

pb::AckLevel to_wire(Ack ack);
void set_read_level(pb::Request& request, ReadLevel level);
pb::BlockRef to_wire(const BlockId& block);
pb::Tensor to_wire(const StoredTensor& tensor);
pb::Codec to_wire(const CodecSpec& codec);
pb::ErrorSums to_wire(const quant::ErrorSums& sums);

// From a message that a node sent. Errors: kCorrupt for numbers that do not exist, shapes that
// overflow, blocks of more values than fit, digests of another length.
Result<BlockId> from_wire(const pb::BlockRef& block);
Result<StoredTensor> from_wire(const pb::Tensor& tensor);
// A listing goes on over keys that a newer version wrote.
KeySummary from_wire(const pb::KeySummary& summary);
Result<CodecSpec> from_wire(const pb::Codec& wire);  // kCorrupt: not a known codec
quant::ErrorSums from_wire(const pb::ErrorSums& sums);
Receipt receipt_from_wire(const pb::WriteReply& reply);
NodeStatus from_wire(const pb::StatusReply& reply, Member member);
Member member_from_wire(const pb::Member& wire);
Member member_from_wire(const pb::MemberStatus& wire);

}  // namespace ballast::client
