/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A few threads that do jobs one after the other.
 *
 * One thread is there from the start, so that no job is left lying if no more can be had.  Others
 * are started when a job has nobody to do it, up to a bound, and stay.  Any thread may push.
 */
#pragma once

#include <glib.h>

typedef struct VmaWorkers VmaWorkers;

VmaWorkers *vma_workers_new (guint max_threads);

/* Starts the first thread, before anything is pushed.  0, or an errno. */
int vma_workers_start (VmaWorkers *workers);

/* Has `job (data)` done.  After stop nothing is done any more. */
void vma_workers_push (VmaWorkers *workers, void (*job) (gpointer data), gpointer data);

/* Waits for the jobs under way, and does no others. */
void vma_workers_stop (VmaWorkers *workers);
void vma_workers_free (VmaWorkers *workers);
