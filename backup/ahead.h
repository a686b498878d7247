/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Writes back what the page cache has of a guest's images, before the guest is paused.
 *
 * QEMU flushes all images when it stops the guest.  Whatever is dirty then is written while the guest
 * stands still, and that is most of the pause.  So we do it first; QEMU finds little left.
 */
#pragma once

/* Does nothing where that is no file or block device that we can open.  Any thread; may take long. */
void vma_flush_ahead (const char *path);
