// SPDX-License-Identifier: Apache-2.0
//
// What the two runner programs have in common: each loads the model, answers its first token, then measures prefill and decode.

/** What a runner is asked to do, as its only argument in JSON. */
export interface Task {
  readonly model: string
  readonly dtype: string
  readonly threads: number
  /** A short prompt: the first token, and the decoding after it. */
  readonly prompt: string
  /** A text of more than `prefillTokens` tokens. */
  readonly text: string
  readonly prefillTokens: number
  readonly decodeTokens: number
  /** How often prefill and decode are measured, after one warm-up of each. */
  readonly repeats: number
}

/** A line that a runner prints when its first token is there, and one at its end. */
export type Message = { readonly event: 'first-token' } | ({ readonly event: 'result' } & RunnerResult)

export interface RunnerResult {
  /** The runner and its version. */
  readonly runner: string
  /** Tokens per second, from the call to the first token: the whole prompt and the head of its last token. */
  readonly prefill: readonly number[]
  /** Tokens per second after the first one. */
  readonly decode: readonly number[]
  /** Of the process, after everything. */
  readonly residentBytes: number
  readonly peakResidentBytes: number
  /** The first ids of the long prompt, so that both runners can be seen to work on the same. */
  readonly promptIds: readonly number[]
}

/** A loaded model: greedy tokens for a prompt, from an empty cache, past the end of the generation if the model wants to end. */
export interface Runner {
  readonly name: string
  tokenize(text: string): readonly number[]
  generate(prompt: readonly number[], tokens: number): AsyncIterable<unknown>
}

/** Does the task with a runner and prints what comes out. */
export async function perform(task: Task, runner: Runner): Promise<void> {
  const prompt = runner.tokenize(task.prompt)
  for await (const _ of runner.generate(prompt, 1)) send({ event: 'first-token' })
  const long = runner.tokenize(task.text).slice(0, task.prefillTokens)
  if (long.length < task.prefillTokens) throw new RangeError(`the text has only ${long.length} tokens`)
  const rates = { prefill: [] as number[], decode: [] as number[] }
  for (let i = 0; i <= task.repeats; i++) {
    const [prefillMs] = await times(runner.generate(long, 1))
    const marks = await times(runner.generate(prompt, task.decodeTokens + 1))
    if (i === 0) continue
    rates.prefill.push((task.prefillTokens / prefillMs!) * 1e3)
    rates.decode.push((task.decodeTokens / (marks.at(-1)! - marks[0]!)) * 1e3)
  }
  send({
    event: 'result',
    runner: runner.name,
    ...rates,
    residentBytes: process.memoryUsage.rss(),
    peakResidentBytes: process.resourceUsage().maxRSS * 1024,
    promptIds: long.slice(0, 16),
  })
}

/** When each token came, in ms after the call. */
async function times(tokens: AsyncIterable<unknown>): Promise<number[]> {
  const start = performance.now()
  const marks: number[] = []
  for await (const _ of tokens) marks.push(performance.now() - start)
  return marks
}

function send(message: Message): void {
  process.stdout.write(`${JSON.stringify(message)}\n`)
}

/** The task that this process was started for. */
export function task(): Task {
  return JSON.parse(process.argv[2] ?? '')
}
