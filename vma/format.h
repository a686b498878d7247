/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The numbers of the VMA archive format, version 1.  vma(5) explains them.
 *
 * Owns nothing; every layer may include it.
 */
#pragma once

#include <stdint.h>

#define VMA_BLOCK_SIZE         4096u
#define VMA_CLUSTER_SIZE       65536u
#define VMA_BLOCKS_PER_CLUSTER 16u
#define VMA_FULL_MASK          0xffffu

#define VMA_UUID_SIZE          16u
#define VMA_MD5_SIZE           16u
#define VMA_MAX_DEVICES        256u /* ids 1..254 are usable */
#define VMA_FIRST_DEVICE       1u
#define VMA_LAST_DEVICE        254u
#define VMA_MAX_CONFIGS        256u
#define VMA_MAX_BLOB           65535u

/* Header. */
#define VMA_HEADER_FIXED_SIZE  12288u /* all before the blob buffer */
#define VMA_HEADER_VERSION     1u
/* Every name and every config at its largest; no honest header is bigger. */
#define VMA_HEADER_MAX_SIZE                                                                        \
  (VMA_HEADER_FIXED_SIZE + 512u + (VMA_MAX_DEVICES + 2u * VMA_MAX_CONFIGS) * (VMA_MAX_BLOB + 2u))

#define VMA_HEADER_OFF_VERSION      4u
#define VMA_HEADER_OFF_UUID         8u
#define VMA_HEADER_OFF_CTIME        24u
#define VMA_HEADER_OFF_MD5          32u
#define VMA_HEADER_OFF_BLOB_OFFSET  48u
#define VMA_HEADER_OFF_BLOB_SIZE    52u
#define VMA_HEADER_OFF_SIZE         56u
#define VMA_HEADER_OFF_CONFIG_NAMES 2044u
#define VMA_HEADER_OFF_CONFIG_DATA  3068u
#define VMA_HEADER_OFF_DEVICES      4096u
#define VMA_DEVICE_INFO_SIZE        32u

/* Extent. */
#define VMA_EXTENT_HEADER_SIZE 512u
#define VMA_EXTENT_SLOTS       59u
#define VMA_EXTENT_MAX_SIZE    (VMA_EXTENT_HEADER_SIZE + VMA_EXTENT_SLOTS * VMA_CLUSTER_SIZE)

#define VMA_EXTENT_OFF_RESERVED    4u
#define VMA_EXTENT_OFF_BLOCK_COUNT 6u
#define VMA_EXTENT_OFF_UUID        8u
#define VMA_EXTENT_OFF_MD5         24u
#define VMA_EXTENT_OFF_SLOTS       40u
#define VMA_EXTENT_SLOT_SIZE       8u

/* cluster_num has 32 bits: no device can be larger than this. */
#define VMA_MAX_CLUSTERS    (UINT64_C(1) << 32)
#define VMA_MAX_DEVICE_SIZE (VMA_MAX_CLUSTERS * VMA_CLUSTER_SIZE)

/* The device name that stands for RAM and device state. */
#define VMA_VMSTATE_NAME "vmstate"
