// SPDX-License-Identifier: Apache-2.0

/** What the decoding continues. */
export const PROMPT = 'Once upon a time there was a lighthouse keeper who'

const PARAGRAPH =
  'The harbour woke before the sun did. Boats came back with their lamps still burning, and on the pier men sorted the catch into wooden boxes while the gulls ' +
  'argued above them. In the kitchen of the old inn somebody was already baking bread; its smell crossed the square, went past the closed shops, and reached the ' +
  'school, where a teacher wrote three questions on the blackboard: how deep is the bay, how far is the island, and how many years did it take to build the wall? ' +
  'Nobody knew all of the answers, but by noon each child had measured something, asked someone, and come back with a number. '

/** More than 2000 tokens of prose. */
export const TEXT = PARAGRAPH.repeat(16)
