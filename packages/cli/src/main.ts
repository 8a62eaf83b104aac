// SPDX-License-Identifier: Apache-2.0
import { Command, CommanderError } from 'commander'
import packageJson from '../package.json' with { type: 'json' }
import { addBench } from './commands/bench'
import { addConformance } from './commands/conformance'
import { addDemo } from './commands/demo'
import { addDoctor } from './commands/doctor'
import { addOps } from './commands/ops'
import { addProfile } from './commands/profile'
import { addRun } from './commands/run'
import { addSetup } from './commands/setup'
import { report, UsageError } from './errors'
import { ExitCode } from './exit-code'
import { endOnBrokenPipe } from './terminal'

/** Runs the command line `argv` (without node and script) and sets the exit code. */
export async function main(argv: readonly string[]): Promise<void> {
  endOnBrokenPipe()
  const program = createProgram()
  try {
    await program.parseAsync(argv, { from: 'user' })
  } catch (error) {
    process.exitCode = error instanceof CommanderError ? endOf(error, program, argv) : report(error)
  }
}

function createProgram(): Command {
  const program = new Command('vllm-ops')
    .description('LLM inference kernels behind the PyTorch dispatcher: set up, inspect, run, profile')
    .version(packageJson.version)
    .helpCommand(false)
    .showSuggestionAfterError()
    // What stands behind `profile show` belongs to it, though `profile` has options of the same names.
    .enablePositionalOptions()
    // Errors are told in the one form of report(), and the exit codes are our own.
    .configureOutput({ outputError: () => {} })
    .exitOverride()
  for (const add of [addSetup, addDoctor, addOps, addRun, addProfile, addBench, addDemo, addConformance])
    add(program)
  return program
}

/** The exit code for what commander throws: for help and version too, which it has printed by then. */
function endOf(error: CommanderError, program: Command, argv: readonly string[]): number {
  if (error.exitCode === 0) return ExitCode.ok
  // Called without a command: commander has printed the help on stderr.
  if (error.code === 'commander.help') return ExitCode.usage
  const command = program.commands.find((command) => command.name() === argv[0])
  const message = error.message.replace(/^error: /, '').replace(/\s*\n\s*/g, ' ')
  return report(new UsageError(message, command?.name()))
}
