// SPDX-License-Identifier: Apache-2.0
import { fileURLToPath } from 'node:url'
import { type Check, numberOption, type Report, reportOf, say, UsageError } from './check'
import { endOf, type Outcome, resultOf, runChild, runProgram } from './child'
import { pythonOf, pythonOption } from './python'

const script = fileURLToPath(new URL('../python/torch_profiler.py', import.meta.url))

/** A call of an op: its arguments are numbers, lists of sizes, and the names of earlier results. */
export interface Step {
  readonly result: string
  readonly op: string
  readonly overload: string
  readonly args: readonly unknown[]
}

/** What both sides run: `inputs` by their sizes, made of ones beforehand, then `steps`, `repeat` times under the profiler. */
export interface ProgramTask {
  readonly inputs: Readonly<Record<string, readonly number[]>>
  readonly steps: readonly Step[]
  readonly repeat: number
}

/** What a side has seen of one op of one name and shapes: how often, and the median of its durations in microseconds. */
export interface Seen {
  readonly calls: number
  readonly medianUs: number
}

/** Everything that a side has seen, by name and shapes as JSON. */
export interface SeenOps {
  readonly torch: string
  readonly ops: Readonly<Record<string, Seen>>
}

const step = (result: string, op: string, overload: string, ...args: unknown[]): Step => {
  return { result, op, overload, args }
}

/** Products, a norm, a softmax, a concatenation and sums, at two sizes: ops that call others, and ops that don't. */
const program: Omit<ProgramTask, 'repeat'> = {
  inputs: { small: [16, 512], large: [256, 512], weight: [512, 512], bias: [512] },
  steps: ['small', 'large'].flatMap((x) => [
    step('logits', 'linear', 'default', x, 'weight', 'bias'),
    step('softmax', 'softmax', 'int', 'logits', 1),
    step('product', 'matmul', 'default', 'softmax', 'weight'),
    step('norm', 'layer_norm', 'default', 'product', [512]),
    step('sum', 'add', 'Tensor', 'norm', x),
    step('tanh', 'tanh', 'default', 'sum'),
    step('both', 'cat', 'default', ['tanh', x], 1),
    step('total', 'sum', 'default', 'both'),
  ]),
}

/**
 * Both sides keep freed memory alike: one that gives it back to the system pays for fresh pages in whichever op writes to them first,
 * and how much a process keeps depends on all that it did before (mallopt of glibc).
 */
const KEPT_BYTES = String(1 << 30)
const env = { MALLOC_MMAP_THRESHOLD_: KEPT_BYTES, MALLOC_TRIM_THRESHOLD_: KEPT_BYTES }

/** Microseconds from which an op's time is judged: below, it is the recording itself that is measured. */
const JUDGED_US = 20

/** The same program under Python's torch.profiler: the same ops, as often, of the same shapes, in the same time. */
export const torchProfiler: Check = {
  name: 'torch-profiler',
  describe:
    "a program's ops, counts and shapes are those of torch.profiler in Python, and so are their times",
  options: [
    { name: 'rounds', value: 'N', help: 'processes of each side, in turn', fallback: '7' },
    { name: 'repeat', value: 'N', help: 'runs of the program in a process', fallback: '200' },
    {
      name: 'tolerance',
      value: 'PERCENT',
      help: 'what a time may differ by beyond what the rounds of one side do',
      fallback: '10',
    },
    pythonOption,
  ],
  async run(options) {
    const [rounds, repeat, tolerance] = ['rounds', 'repeat', 'tolerance'].map((name) =>
      numberOption(options, name),
    )
    if (!rounds || !repeat) throw new UsageError('--rounds, --repeat: expected 1 and more')
    const python = await pythonOf(options)
    const task: ProgramTask = { ...program, repeat }
    const [ours, theirs]: [SeenOps[], SeenOps[]] = [[], []]
    for (let round = 0; round < rounds; round++) {
      say(`torch-profiler: round ${round + 1} of ${rounds}`)
      ours.push(seenBy(await runChild('torch-profiler', task, { env })))
      theirs.push(seenBy(await runProgram(python, [script, JSON.stringify(task)], { env })))
    }
    return compare(ours, theirs, tolerance!)
  },
}

function seenBy(outcome: Outcome): SeenOps {
  const seen = resultOf<SeenOps>(outcome)
  if (!seen) throw new Error(endOf(outcome))
  return seen
}

/** Judges the rounds of both sides. */
export function compare(ours: readonly SeenOps[], theirs: readonly SeenOps[], tolerance: number): Report {
  const [first, second] = [ours[0]!, theirs[0]!]
  const failures: string[] = []
  if (first.torch !== second.torch) failures.push(`torch ${first.torch} here, ${second.torch} in Python`)
  const rows: Record<string, unknown>[] = []
  for (const key of [...new Set([first, second].flatMap(({ ops }) => Object.keys(ops)))].sort()) {
    const [here, there] = [first.ops[key]?.calls ?? 0, second.ops[key]?.calls ?? 0]
    if (here !== there) {
      failures.push(`${key}: ${here} calls here, ${there} in Python`)
      continue
    }
    const [a, b] = [ours, theirs].map((rounds) => rounds.map(({ ops }) => ops[key]!.medianUs))
    const [oursUs, pythonUs] = [middle(a!), middle(b!)]
    const noise = Math.max(spread(a!), spread(b!))
    const ratio = oursUs / pythonUs
    rows.push({ op: key, calls: here, oursUs, pythonUs, ratio, noise })
    const differs = Math.max(ratio, 1 / ratio) > noise * (1 + tolerance / 100)
    if (Math.min(oursUs, pythonUs) >= JUDGED_US && differs) {
      const times = `${oursUs.toFixed(1)} µs here, ${pythonUs.toFixed(1)} µs in Python`
      failures.push(`${key}: ${times}; the rounds of a side differ by ${percent(noise)}`)
    }
  }
  for (const { op, oursUs, pythonUs, ratio, noise } of rows)
    say(
      `${Number(oursUs).toFixed(1).padStart(9)} µs ${Number(pythonUs).toFixed(1).padStart(9)} µs in Python, ratio ${Number(ratio).toFixed(2)}, noise ${percent(Number(noise))}  ${op}`,
    )
  const judged = rows.filter(
    ({ oursUs, pythonUs }) => Math.min(Number(oursUs), Number(pythonUs)) >= JUDGED_US,
  )
  const ratios = judged.map(({ ratio }) => Number(ratio))
  const figures = {
    ...{ torch: first.torch, ops: rows.length, judged: judged.length },
    ...{ medianRatio: middle(ratios), ratios: rows },
  }
  return reportOf(figures, failures)
}

/** How much the largest is of the smallest. */
function spread(values: readonly number[]): number {
  return Math.max(...values) / Math.min(...values)
}

function middle(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[values.length >> 1] ?? Number.NaN
}

function percent(ratio: number): string {
  return `${((ratio - 1) * 100).toFixed(0)} %`
}
