/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "source/zstd/analysis.h"

#include "source/zstd/sequences.h"

#include "vma/error.h"

#include <string.h>

/* Blocks to look back at for the repeat offsets; one is nearly always enough. */
#define HISTORY 16

/* A block with sequences that was not decoded, with the tables that it has. */
typedef struct {
  VmaZstdRecord record;
  VmaZstdTables tables;
} Past;

struct VmaZstdAnalysis {
  VmaCodecLimits limits;
  const VmaZstdRing *ring;
  gboolean thorough;
  VmaZstdEmit emit;
  gpointer data;
  VmaZstdSequencer *sequencer;
  guint given_up;

  gboolean any;     /* a checkpoint was given away, or the pass began at one */
  guint64 last_out; /* of the checkpoint opened last */
  gboolean fresh;   /* the frame's beginning will be one, once it gives something */
  VmaCheckpoint beginning;

  /* The frame. */
  gboolean blind; /* given up */
  gboolean checksum;
  guint64 window;
  guint64 origin; /* out - origin: position in the frame; may wrap below 0 */
  VmaZstdTables tables;

  /* The repeat offsets before history[0], and the blocks since; a block at a position before
   * `until` is decoded at once, as is any while `tracking`. */
  VmaZstdRepeats repeats;
  Past history[HISTORY];
  guint first;
  guint n_history;
  guint64 until;
  gboolean tracking;

  /* The open checkpoint. */
  gboolean open;
  guint64 before; /* last_out without it */
  VmaCheckpoint at;
  VmaZstdCheckpoint state;
  VmaZstdWindow *used;
  VmaZstdBlockList list;
};

VmaZstdAnalysis *
vma_zstd_analysis_new (const VmaCodecLimits *limits, const VmaZstdRing *ring, gboolean thorough,
                       VmaZstdEmit emit, gpointer data)
{
  VmaZstdAnalysis *analysis = g_new0 (VmaZstdAnalysis, 1);

  analysis->limits = *limits;
  analysis->ring = ring;
  analysis->thorough = thorough;
  analysis->emit = emit;
  analysis->data = data;
  analysis->sequencer = vma_zstd_sequencer_new ();
  vma_zstd_block_list_clear (&analysis->list);
  return analysis;
}

static void
drop (VmaZstdAnalysis *analysis)
{
  analysis->open = FALSE;
  g_clear_pointer (&analysis->used, vma_zstd_window_free);
}

void
vma_zstd_analysis_free (VmaZstdAnalysis *analysis)
{
  if (analysis == NULL)
    return;
  drop (analysis);
  for (guint i = 0; i < HISTORY; i++)
    vma_zstd_record_clear (&analysis->history[i].record);
  g_byte_array_unref (analysis->list.list);
  vma_zstd_sequencer_free (analysis->sequencer);
  g_free (analysis);
}

static void
give_up (VmaZstdAnalysis *analysis)
{
  drop (analysis);
  analysis->blind = TRUE;
  analysis->given_up++;
}

/* Gives the open checkpoint away. */
static void
finish (VmaZstdAnalysis *analysis, gboolean ends)
{
  VmaZstdCheckpoint *state = &analysis->state;
  g_autoptr (GByteArray) packed = NULL;

  if (!analysis->open)
    return;
  if (analysis->list.blocks.size == 0) {
    /* Only empty blocks followed: it would be of no use. */
    analysis->last_out = analysis->before;
    drop (analysis);
    return;
  }
  state->content = MAX (analysis->at.out - vma_zstd_window_first (analysis->used), 1);
  for (guint i = 0; i < G_N_ELEMENTS (state->repeats.offset); i++)
    state->content = MAX (state->content, state->repeats.offset[i]);
  packed = vma_zstd_window_pack (analysis->used, state->content, &state->unpacked);
  state->packed = packed->data;
  state->packed_size = packed->len;
  state->blocks = analysis->list.blocks;
  state->blocks.ends = ends;
  state->blocks.list = analysis->list.list->data;
  state->blocks.list_size = analysis->list.list->len;

  analysis->at.state = vma_zstd_checkpoint_serialise (state);
  drop (analysis);
  analysis->emit (analysis->data, &analysis->at);
}

/* The state at a frame's beginning. */
static void
enter_frame (VmaZstdAnalysis *analysis, guint64 window, gboolean checksum, guint64 origin)
{
  analysis->blind = FALSE;
  analysis->checksum = checksum;
  analysis->window = window;
  analysis->origin = origin;
  vma_zstd_tables_reset (&analysis->tables);
  analysis->repeats = vma_zstd_repeats_initial;
  analysis->n_history = 0;
  analysis->until = 0;
  analysis->tracking = FALSE;
}

void
vma_zstd_analysis_resume (VmaZstdAnalysis *analysis, guint64 out, const VmaZstdCheckpoint *state)
{
  analysis->any = TRUE;
  analysis->last_out = out;
  if (state == NULL)
    return;
  enter_frame (analysis, state->window, state->checksum, out - state->position);
  analysis->tables = state->tables;
  analysis->repeats = state->repeats;
  analysis->until = out + state->window;
}

void
vma_zstd_analysis_frame (VmaZstdAnalysis *analysis, guint64 in, guint64 out,
                         const VmaZstdFrame *frame)
{
  /* It costs nothing, so it may be closer than others; but not every little frame. */
  guint64 spacing = MAX (analysis->limits.spacing / 4, 1);

  enter_frame (analysis, frame->window, frame->checksum, out);
  analysis->fresh = !analysis->any || out - analysis->last_out >= spacing;
  analysis->beginning = (VmaCheckpoint){ .in = in, .out = out, .state = NULL };
}

static void
emit_beginning (VmaZstdAnalysis *analysis)
{
  analysis->fresh = FALSE;
  analysis->any = TRUE;
  analysis->last_out = analysis->beginning.out;
  analysis->emit (analysis->data, &analysis->beginning);
}

/* Keeps what the sequences of a block copy from before the open checkpoint; checks all of them. */
static gboolean
look_at_matches (VmaZstdAnalysis *analysis, const VmaZstdRecord *record,
                 const VmaZstdSequence *sequences, guint32 count, GError **error)
{
  const gboolean keep = analysis->open && record->out < analysis->until;
  const guint64 edge = analysis->at.out;
  guint64 at = record->out;

  for (guint32 i = 0; i < count; i++) {
    const VmaZstdSequence *sequence = &sequences[i];
    guint64 offset = sequence->offset;

    at += sequence->literals;
    if (offset > MIN (analysis->window, at - analysis->origin)) {
      g_set_error (error, VMA_ERROR, VMA_ERROR_DAMAGED,
                   "offset %" G_GUINT64_FORMAT ": a block copies from outside the window",
                   record->in);
      return FALSE;
    }
    /* Unknown (0) only outside of `until`. */
    if (keep && offset > at - edge)
      vma_zstd_window_use (analysis->used, analysis->ring, at - offset,
                           MIN (at - offset + sequence->match, edge));
    at += sequence->match;
  }
  return TRUE;
}

/* Decodes a block's sequences, carrying `repeats` on.  A block that is not as it must be gives the
 * frame up. */
static gboolean
decode (VmaZstdAnalysis *analysis, const VmaZstdRecord *record, const VmaZstdTables *tables,
        VmaZstdRepeats *repeats, GError **error)
{
  VmaZstdSequencesSection section;
  const VmaZstdSequence *sequences = NULL;
  guint32 literals = 0;
  guint32 matches = 0;

  if (vma_zstd_sequences_section_parse (record->sequences, record->sequences_size, &section))
    sequences
        = vma_zstd_sequencer_decode (analysis->sequencer, tables, section.bits, section.bits_size,
                                     section.count, repeats, &literals, &matches);
  if (sequences == NULL || literals > record->literals
      || record->literals + matches != record->given) {
    give_up (analysis);
    return TRUE;
  }
  return look_at_matches (analysis, record, sequences, section.count, error);
}

static Past *
past (VmaZstdAnalysis *analysis, guint i)
{
  return &analysis->history[(analysis->first + i) % HISTORY];
}

static void
remember (VmaZstdAnalysis *analysis, VmaZstdRecord *record)
{
  if (analysis->n_history == HISTORY) {
    analysis->first = (analysis->first + 1) % HISTORY;
    analysis->n_history--;
    analysis->repeats = (VmaZstdRepeats){ 0 };
  }
  Past *slot = past (analysis, analysis->n_history++);
  vma_zstd_record_swap (&slot->record, record);
  slot->tables = analysis->tables;
}

/* Finds the repeat offsets behind the history, from as few blocks as will do, and empties it. */
static gboolean
catch_up (VmaZstdAnalysis *analysis, GError **error)
{
  const guint n = analysis->n_history;
  VmaZstdRepeats repeats = analysis->repeats;

  for (guint look = 1; n > 0; look *= 2) {
    look = MIN (look, n);
    repeats = look == n ? analysis->repeats : (VmaZstdRepeats){ 0 };
    for (guint i = n - look; i < n && !analysis->blind; i++) {
      const Past *block = past (analysis, i);
      if (!decode (analysis, &block->record, &block->tables, &repeats, error))
        return FALSE;
    }
    if (look == n || analysis->blind || vma_zstd_repeats_known (&repeats))
      break;
  }
  analysis->repeats = repeats;
  analysis->n_history = 0;
  return TRUE;
}

/* Whether the repeat offsets fit into the bytes that a dictionary may have. */
static gboolean
usable (const VmaZstdRepeats *repeats, guint64 reach)
{
  for (guint i = 0; i < G_N_ELEMENTS (repeats->offset); i++)
    if (repeats->offset[i] == 0 || repeats->offset[i] > reach)
      return FALSE;
  return TRUE;
}

static gboolean
consider (VmaZstdAnalysis *analysis, guint64 in, guint64 out, GError **error)
{
  guint64 position = out - analysis->origin;
  guint64 reach = MIN (analysis->window, position);

  if (out - analysis->last_out < MAX (analysis->limits.spacing, analysis->window))
    return TRUE;
  if (!catch_up (analysis, error))
    return FALSE;
  if (analysis->blind)
    return TRUE;
  if (!usable (&analysis->repeats, reach)) {
    analysis->tracking = TRUE;
    return TRUE;
  }

  finish (analysis, FALSE);
  analysis->at = (VmaCheckpoint){ .in = in, .out = out };
  analysis->state = (VmaZstdCheckpoint){
    .window = analysis->window,
    .position = position,
    .checksum = analysis->checksum,
    .repeats = analysis->repeats,
    .tables = analysis->tables,
  };
  analysis->used = vma_zstd_window_new (out - reach, out);
  vma_zstd_block_list_clear (&analysis->list);
  analysis->open = TRUE;
  analysis->before = analysis->last_out;
  analysis->last_out = out;
  analysis->until = out + analysis->window;
  analysis->tracking = FALSE;
  return TRUE;
}

/* What the block means for the state: its tables, its sequences. */
static gboolean
follow (VmaZstdAnalysis *analysis, VmaZstdRecord *record, GError **error)
{
  VmaZstdLiteralsSection literals = { .huffman = record->huffman_size > 0 ? record->huffman : NULL,
                                      .huffman_size = record->huffman_size };
  VmaZstdSequencesSection section;

  if (!record->compressed)
    return TRUE;
  if (!record->valid
      || !vma_zstd_sequences_section_parse (record->sequences, record->sequences_size, &section)) {
    give_up (analysis);
    return TRUE;
  }
  vma_zstd_tables_apply_literals (&analysis->tables, &literals);
  if (!vma_zstd_tables_apply_sequences (&analysis->tables, &section)) {
    give_up (analysis);
    return TRUE;
  }
  if (section.count == 0)
    return TRUE;
  if (analysis->thorough || analysis->tracking || record->out < analysis->until)
    return decode (analysis, record, &analysis->tables, &analysis->repeats, error);
  remember (analysis, record);
  return TRUE;
}

gboolean
vma_zstd_analysis_block (VmaZstdAnalysis *analysis, VmaZstdRecord *record, GError **error)
{
  const guint64 next = record->next;
  const guint64 end = record->out + record->given;
  const gboolean last = record->last;

  if (analysis->fresh && record->given > 0)
    emit_beginning (analysis);
  if (analysis->blind)
    return TRUE;
  if (analysis->open)
    vma_zstd_block_list_add (&analysis->list, record->compressed, record->given);
  if (!follow (analysis, record, error)) {
    drop (analysis);
    return FALSE;
  }
  if (analysis->open && vma_zstd_window_cost (analysis->used) > analysis->limits.memory / 4)
    drop (analysis);
  if (analysis->blind)
    return TRUE;
  if (last) {
    finish (analysis, TRUE);
    return TRUE;
  }
  return consider (analysis, next, end, error);
}

void
vma_zstd_analysis_cut (VmaZstdAnalysis *analysis)
{
  finish (analysis, FALSE);
}

guint
vma_zstd_analysis_given_up (const VmaZstdAnalysis *analysis)
{
  return analysis->given_up;
}
