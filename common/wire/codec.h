// SPDX-License-Identifier: Apache-2.0
// Encoding and checked decoding of the FlatBuffers messages, through the generated object API: the
// rest of the tree works on the plain structs (wire::MakeT, wire::MetaReplyT …), never on buffers.
//
// decode<T>() verifies a buffer with our own limits (depth, tables) before anything is read. Bytes
// that fail give Errc::corrupt and are never asserted on.
// Include the generated header of the schema that you need through common/wire/messages.h.
#pragma once

#include <flatbuffers/flatbuffers.h>

#include "common/base/bytes.h"
#include "common/base/limits.h"
#include "common/base/result.h"

namespace lumeofs::wire {

// T is a generated table type with the object API (T::NativeTableType).
template <typename T>
Bytes encode(const typename T::NativeTableType& message) {
    flatbuffers::FlatBufferBuilder builder(512);
    builder.Finish(T::Pack(builder, &message));
    return Bytes(builder.GetBufferPointer(), builder.GetBufferPointer() + builder.GetSize());
}

template <typename T>
Result<typename T::NativeTableType> decode(View bytes) {
    if (bytes.size() > kMaxBodyBytes) return Status(Errc::corrupt, "message is too large");
    flatbuffers::Verifier verifier(bytes.data(), bytes.size(), kMaxVerifyDepth, kMaxVerifyTables);
    if (!verifier.VerifyBuffer<T>(nullptr)) {
        return Status(Errc::corrupt, "message does not have the form of its type");
    }
    typename T::NativeTableType message;
    flatbuffers::GetRoot<T>(bytes.data())->UnPackTo(&message);
    return message;
}

}  // namespace lumeofs::wire
