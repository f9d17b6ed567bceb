// SPDX-License-Identifier: Apache-2.0
// All generated message structs in one place (SYSTEM includes; plain structs end in T).
#pragma once

#include "schema/chunk_generated.h"
#include "schema/cluster_generated.h"
#include "schema/meta_generated.h"
