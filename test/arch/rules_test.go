// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package arch

// An importRule says what the packages in of may import. Patterns of ours are directories below the module, others
// are import paths; "std" is the standard library. Product files are meant; tests and packages of test helpers
// (NAMEtest) too, if tests is set.
type importRule struct {
	of     []string // whom the rule is about
	except []string // who may all the same
	only   []string // if set: nothing but these
	never  []string // none of these
	tests  bool     // test files too
	reason string
}

const (
	grpc   = "google.golang.org/grpc/..."
	yaml   = "go.yaml.in/yaml/v3"
	pdata  = "go.opentelemetry.io/collector/pdata/"
	everyE = "internal/..."
)

// implementations are what only app and its list of components may name. A sibling may use what its family shares
// (exporter/wire).
var implementations = []string{
	"internal/receiver/*", "internal/exporter/*", "internal/processor/*", "internal/extension/*",
	"internal/queue/memory",
}

// importRules is section 3 of the house style.
var importRules = []importRule{
	{
		of: []string{"cmd/..."}, only: []string{"std", "internal/cli"},
		reason: "main holds signals and the exit code; everything else can be called by a test",
	},
	{
		of: []string{everyE}, except: []string{"internal/app", "internal/app/components", "internal/app/replay",
			"internal/app/queuelog", "internal/app/series", "internal/app/emergency", // these have rules of their own
			"internal/receiver/*", "internal/exporter/*", "internal/processor/*", "internal/extension/*", "internal/journal/..."},
		never:  implementations,
		reason: "only app, with its list of components, names implementations; everything else sees contracts",
	},
	{
		of: []string{"internal/app/components"},
		never: []string{"internal/app", "internal/app/replay", "internal/pipeline/...", "internal/plan", "internal/reload",
			"internal/queue/...", "internal/status"},
		reason: "the list of components builds nothing and runs nothing",
	},
	{
		of: []string{"internal/app/replay"},
		never: []string{"internal/app", "internal/receiver/*", "internal/exporter/otlpgrpc", "internal/exporter/otlphttp",
			"internal/processor/*", "internal/extension/*", "internal/queue/memory", "internal/pipeline", "internal/reload",
			"internal/status"},
		reason: "of implementations a replay knows the files of the file exporter; senders come from the list",
	},
	{
		of:     []string{"internal/app/queuelog"},
		only:   []string{"std", "go.uber.org/zap/...", "internal/journal", "internal/queue", "internal/queue/memory", "internal/telemetry"},
		reason: "it knows what queues tell of, and nobody who has one",
	},
	{
		of: []string{"internal/app/series"},
		only: []string{"std", "internal/failover", "internal/journal", "internal/queue", "internal/queue/memory",
			"internal/telemetry"},
		reason: "it shows snapshots, and cannot hold up who they are of",
	},
	{
		of: []string{"internal/app/sources"},
		only: []string{"std", "golang.org/x/sys/...", "internal/app/components", "internal/config", "internal/journal", "internal/plan",
			"internal/reload"},
		reason: "it loads, and builds nothing",
	},
	{
		of: []string{"internal/app/operator"},
		only: []string{"std", "internal/admin", "internal/config", "internal/failover", "internal/otlp", "internal/pipeline/switchroom",
			"internal/reload", "internal/status", "internal/telemetry"},
		reason: "it passes wishes on, and knows neither a generation nor a pipeline",
	},
	{
		of: []string{"internal/app/emergency"},
		only: []string{"std", "internal/exporter/file", "internal/exporter/file/vault", "internal/otlp", "internal/pipeline",
			"internal/queue"},
		reason: "it repays from one kind of file, and neither opens it nor knows a level",
	},
	{
		of: []string{"internal/app/evidence", "internal/app/shown"}, never: []string{"internal/app", "internal/plan", "net/http", "os"},
		reason: "they copy what they are handed, and know nobody who runs",
	},
	{
		of: []string{everyE}, except: []string{"internal/app", "internal/app/components", "internal/app/replay",
			"internal/app/queuelog", "internal/app/series", "internal/app/sources", "internal/cli", "internal/cli/...",
			"internal/journal/...",
			"internal/receiver/...", "internal/exporter/..."}, // these have rules of their own
		never: []string{"internal/journal/..."},
		reason: "the journal is an implementation too; but the queue commands read and repair its files where no process " +
			"runs that could be asked",
	},
	{
		of:     []string{"internal/otlp", "internal/breaker", "internal/queue"},
		only:   []string{"std"},
		reason: "the cargo, the breaker and the queue's contract outlive every library",
	},
	{
		of:     []string{"internal/admission"},
		only:   []string{"std"},
		reason: "the gate counts bytes; it knows no request",
	},
	{
		of: []string{"internal/vfs"}, only: []string{"std", "golang.org/x/sys/..."},
		reason: "the disk border needs system calls and nothing else",
	},
	{
		of: []string{"internal/receiver/..."},
		never: []string{"internal/journal/...", "internal/queue/...", "internal/exporter/...", "internal/failover",
			"internal/processor/...", "internal/pipeline/...", "internal/plan"},
		reason: "a receiver knows a Sink, not what stands behind it",
	},
	{
		of: []string{"internal/exporter/..."},
		never: []string{"internal/receiver/...", "internal/queue/...", "internal/journal/...", "internal/failover",
			"internal/processor/...", "internal/pipeline/...", "internal/plan", "internal/admission"},
		reason: "an exporter sends and says the verdict; it does not know that it is second, nor who queues",
	},
	{
		of: []string{"internal/queue/memory", "internal/queue/window", "internal/journal/..."},
		never: []string{"internal/otlp", "internal/config", "internal/telemetry", "internal/exporter/...",
			"internal/receiver/...", "net", "net/http", grpc},
		reason: "a queue stores opaque bytes: no otlp, no config, no network",
	},
	{
		of: []string{"internal/breaker", "internal/failover"},
		never: []string{"net", "net/http", "os", grpc, "internal/exporter/*", "internal/queue/...",
			"internal/journal/...", "internal/pipeline/..."},
		reason: "decisions are pure: no sockets, no files",
	},
	{
		of: []string{"internal/pipeline/switchroom"},
		only: []string{"std", "go.uber.org/zap/...", "internal/breaker", "internal/exporter", "internal/failover", "internal/otlp",
			"internal/queue", "internal/telemetry"},
		reason: "the switch is driven for all pipelines, and knows none of them",
	},
	{
		of: []string{"internal/pipeline/recordmeta"}, only: []string{"std", "internal/otlp"},
		reason: "a format on disk depends on its bytes alone",
	},
	{
		of: []string{"internal/failover/statefile"}, only: []string{"std", "go.uber.org/zap/...", "internal/failover", "internal/vfs"},
		reason: "it keeps what the switch remembers, and decides nothing",
	},
	{
		of: []string{"internal/failover"}, never: []string{"internal/failover/statefile"},
		reason: "decisions do not wait for a disk",
	},
	{
		of: []string{"internal/journal/...", "internal/queue/memory", "internal/queue/window", "internal/failover/...",
			"internal/pipeline/...", "internal/receiver/otlpgrpc", "internal/receiver/otlphttp", "internal/exporter/otlphttp"},
		never:  []string{"os", "io/ioutil"},
		reason: "only vfs touches data files through os",
	},
	{
		of: []string{everyE}, except: []string{"internal/config"}, never: []string{yaml},
		reason: "only config knows YAML",
	},
	{
		of: []string{everyE}, except: []string{"internal/receiver/otlpgrpc", "internal/exporter/otlpgrpc",
			"internal/mockbackend", "internal/loadgen", "internal/bridge"},
		never: []string{grpc},
		reason: "only the two otlpgrpc packages and the backends and producers of drills know gRPC, so that an own " +
			"HTTP/2 layer can take its place",
	},
	{
		of: []string{everyE}, except: []string{"internal/bridge", "internal/receiver/otlphttp",
			"internal/exporter/otlphttp", "internal/exporter/file", "internal/exporter/debug", "internal/exporter/wire"},
		never:  []string{pdata + "ptrace/...", pdata + "pmetric/...", pdata + "plog/...", pdata + "pprofile/..."},
		reason: "requests travel as wire bytes; only doors that speak JSON, and debug's detailed output, decode",
	},
	{
		of: []string{"internal/config"},
		never: []string{"internal/app/...", "internal/cli", "internal/cli/...", "internal/pipeline/...", "internal/plan", "internal/failover",
			"internal/receiver/...", "internal/exporter/...", "internal/processor/...", "internal/extension/...",
			"internal/journal/...", "internal/queue/..."},
		reason: "config imports no component; a component owns its Config and arrives in a Registry",
	},
	{
		of: []string{"internal/status"},
		never: []string{"internal/app/...", "internal/pipeline/...", "internal/journal/...", "internal/queue/...",
			"internal/exporter/...", "internal/receiver/..."},
		reason: "status is handed snapshots; it can never hold up the data path",
	},
	{
		of:     []string{everyE, "cmd/..."},
		except: []string{"internal/cli", "internal/cli/...", "internal/drill", "internal/drill/...", "internal/mockbackend", "internal/ledger", "internal/loadgen"},
		never:  []string{"internal/drill", "internal/mockbackend", "internal/ledger", "internal/loadgen"},
		reason: "nothing on the data path imports the proving ground",
	},
	{
		of: []string{"internal/ledger/..."}, never: []string{"internal/otlp", "internal/compression", "internal/mockbackend", pdata + "..."}, tests: true,
		reason: "the checker must not share the parser, nor its mistakes, with the product",
	},
	{
		of: []string{everyE}, except: []string{"internal/app", "internal/app/...", "internal/cli", "internal/cli/...", "internal/drill"},
		never:  []string{"internal/app", "internal/app/..."},
		reason: "calls go forward: app calls the rooms, the rooms never call app",
	},
	{
		of: []string{"internal/reload"},
		never: []string{"internal/config", "internal/pipeline/...", "internal/plan", "internal/queue/...", "internal/journal/...",
			"internal/exporter/...", "internal/receiver/...", "internal/failover", "internal/otlp", "net", "net/http", "os"},
		reason: "reload decides from evidence and texts; app builds, and vfs keeps",
	},
	{
		of: []string{everyE}, except: []string{"internal/cli", "internal/cli/..."},
		never:  []string{"internal/cli", "internal/cli/...", "github.com/spf13/cobra/..."},
		reason: "only the command line knows commands",
	},
	{
		of: []string{"..."}, tests: true,
		never:  []string{"github.com/stretchr/testify/...", "github.com/onsi/gomega/...", "github.com/google/go-cmp/..."},
		reason: "tests use the standard library and small check functions; a failing line is the case",
	},
	{
		of: []string{everyE, "cmd/..."}, never: []string{"html/template", "text/template"},
		reason: "a linked template keeps every exported method alive: 7 MB",
	},
	{
		of:     []string{everyE, "cmd/..."},
		never:  []string{"go.opentelemetry.io/collector/service/...", "go.opentelemetry.io/collector/otelcol/..."},
		reason: "upstream's service is what this replaces; its telemetry alone is 114 packages (docs/adr)",
	},
}

// planned are rooms the rules name before they are built. One that exists is taken off this list, so that a rule
// notices when its room is renamed away.
var planned = []string{
	"internal/bridge",
}

// notRequired are modules a rule forbids although nothing brings them; all other foreign paths in rules must be
// required by go.mod, so that a rule notices when a module is renamed.
var notRequired = []string{
	"github.com/onsi/gomega", "github.com/google/go-cmp", "github.com/stretchr/testify",
	"go.opentelemetry.io/collector/otelcol", "go.opentelemetry.io/collector/service",
}

// badNames are no rooms: what would be put there belongs where it is used.
var badNames = []string{"util", "utils", "common", "helper", "helpers", "misc", "base", "types", "shared", "lib"}

// A callRule forbids functions of other packages, by import path and name, in files that are not tests.
type callRule struct {
	of     []string
	except []string
	calls  map[string][]string
	reason string
}

var callRules = []callRule{
	{
		of: []string{everyE}, except: []string{"internal/cli", "internal/cli/..."},
		calls:  map[string][]string{"os": {"Exit"}, "log": {"Fatal", "Fatalf", "Fatalln"}},
		reason: "no exit outside cmd and the command line: once started, nothing ends the process by itself",
	},
	{
		of: []string{"internal/breaker", "internal/failover"},
		calls: map[string][]string{"time": {"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTimer",
			"NewTicker"}},
		reason: "time is an argument of every decision",
	},
	{
		of:     []string{"internal/otlp"},
		calls:  map[string][]string{"time": {"Now", "Since", "Sleep"}, "os": {"Open", "ReadFile", "Create"}},
		reason: "a scan depends on its bytes alone",
	},
}

// noGoroutines start none: one goroutine of their caller drives each.
var noGoroutines = []string{"internal/breaker", "internal/failover", "internal/otlp", "internal/plan",
	"internal/admission"}
