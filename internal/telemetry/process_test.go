// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package telemetry_test

import (
	"math"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/debug"
	"testing"

	"github.com/holdfast-telemetry/holdfast/internal/telemetry"
)

// A reload registers the series of the process anew. It is no restart, and an alert counts those.
func TestUpTimeGoesOnWhenTheSeriesAreMadeAgain(t *testing.T) {
	reg := telemetry.NewRegistry()
	upTime := func() float64 {
		telemetry.RegisterProcess(reg)
		families, _ := scrape(t, reg, telemetry.Options{})
		return families["otelcol_process_uptime"].Metric[0].GetCounter().GetValue()
	}
	before := upTime()
	if after := upTime(); before <= 0 || after <= before {
		t.Errorf("up time is %v, then %v", before, after)
	}
}

func TestProcessSeriesTellOfThisProcess(t *testing.T) {
	reg := telemetry.NewRegistry()
	telemetry.RegisterProcess(reg)
	telemetry.RegisterBuild(reg, "0.1.0", "abc1234", "v0.164.0")
	families, _ := scrape(t, reg, telemetry.Options{})
	value := func(name string) float64 {
		t.Helper()
		f := families[name]
		if f == nil {
			t.Errorf("no %s", name)
			return 0
		}
		m := f.Metric[0]
		return m.GetCounter().GetValue() + m.GetGauge().GetValue()
	}
	between := func(name string, low, high float64) {
		t.Helper()
		if v := value(name); v < low || v > high {
			t.Errorf("%s is %v, want %v to %v", name, v, low, high)
		}
	}
	between("otelcol_process_uptime", 0, 600)
	between("otelcol_process_cpu_seconds", 1e-6, 600)
	between("otelcol_process_runtime_heap_alloc_bytes", 1<<10, 1<<32)
	between("otelcol_process_runtime_total_alloc_bytes", 1<<10, 1<<40)
	between("otelcol_process_runtime_total_sys_memory_bytes", 1<<20, 1<<40)
	if runtime.GOOS == "linux" {
		between("otelcol_process_memory_rss", 1<<20, 1<<36)
	}
	between("holdfast_build_info", 1, 1)
	if got := labels(families["holdfast_build_info"].Metric[0]); got !=
		"collector=v0.164.0,commit=abc1234,go="+runtime.Version()+",version=0.1.0" {
		t.Errorf("build info is %s", got)
	}
}

func TestResourceHasDefaultsThatConfigurationChangesOrTakesAway(t *testing.T) {
	a, err := telemetry.NewResource(nil, "1.2.3")
	if err != nil {
		t.Fatal(err)
	}
	if a["service.name"] != "holdfast" || a["service.version"] != "1.2.3" || len(a) != 3 {
		t.Errorf("defaults are %v", a)
	}
	uuid := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	b, _ := telemetry.NewResource(nil, "1.2.3")
	if !uuid.MatchString(a["service.instance.id"]) || a["service.instance.id"] == b["service.instance.id"] {
		t.Errorf("instances are %q and %q", a["service.instance.id"], b["service.instance.id"])
	}
	got, err := telemetry.NewResource(map[string]any{"service.name": "edge", "service.version": nil, "rack": 4}, "1")
	if err != nil || got["service.name"] != "edge" || got["rack"] != "4" {
		t.Errorf("map: %v, %v", got, err)
	}
	if _, there := got["service.version"]; there {
		t.Error("null did not take service.version away")
	}
	got, err = telemetry.NewResource(map[string]any{"schema_url": "x", "attributes": []any{
		map[string]any{"name": "service.name", "value": "edge"}, map[string]any{"name": "n", "value": 1.5},
	}}, "1")
	if err != nil || got["service.name"] != "edge" || got["n"] != "1.5" || got["schema_url"] != "" {
		t.Errorf("list: %v, %v", got, err)
	}
	if _, err := telemetry.NewResource(map[string]any{"attributes": []any{map[string]any{"value": "x"}}}, "1"); err == nil {
		t.Error("an attribute without a name is no error")
	}
}

func TestMemoryLimitIsTheLeastOfTheCgroupsOnTheWayUp(t *testing.T) {
	check := func(name string, want int64, files map[string]string) {
		t.Helper()
		root := t.TempDir()
		for file, text := range files {
			file = filepath.Join(root, file)
			if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got := telemetry.CgroupLimit(root); got != want {
			t.Errorf("%s: %d, want %d", name, got, want)
		}
	}
	const none = math.MaxInt64
	check("nothing known", none, nil)
	check("version 2, own namespace", 384<<20, map[string]string{
		"proc/self/cgroup":          "0::/\n",
		"sys/fs/cgroup/memory.max":  "402653184\n",
		"sys/fs/cgroup/memory.high": "1\n",
	})
	check("version 2, unlimited", none, map[string]string{
		"proc/self/cgroup":         "0::/user.slice\n",
		"sys/fs/cgroup/memory.max": "max\n",
	})
	check("version 2, a parent is tighter", 100, map[string]string{
		"proc/self/cgroup":                         "0::/pods/pod1/app\n",
		"sys/fs/cgroup/pods/pod1/app/memory.max":   "max\n",
		"sys/fs/cgroup/pods/pod1/memory.max":       "100\n",
		"sys/fs/cgroup/pods/memory.max":            "200\n",
		"sys/fs/cgroup/elsewhere/memory.max":       "1\n",
		"sys/fs/cgroup/pods/pod1/other/memory.max": "2\n",
	})
	check("version 1, the host's path is not mounted", 512<<20, map[string]string{
		"proc/self/cgroup":                           "12:cpu,cpuacct:/docker/abc\n11:memory:/docker/abc\n1:name=systemd:/docker/abc\n",
		"sys/fs/cgroup/memory/memory.limit_in_bytes": "536870912\n",
	})
	check("version 1, unlimited", none, map[string]string{
		"proc/self/cgroup":                           "11:memory:/\n",
		"sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
	})
	check("both, memory in version 1", 7, map[string]string{
		"proc/self/cgroup": "4:cpuset,memory:/a:b\n0::/\n",
		"sys/fs/cgroup/memory/a:b/memory.limit_in_bytes": "7\n",
	})
	check("nonsense", none, map[string]string{
		"proc/self/cgroup":         "x\n0:\n0::/../..\n",
		"sys/fs/cgroup/memory.max": "-5 or so\n",
	})
}

func TestPhysicalMemoryIsReadFromMeminfo(t *testing.T) {
	root := t.TempDir()
	if got := telemetry.PhysicalMemory(root); got != 0 {
		t.Errorf("without a file: %d", got)
	}
	if err := os.Mkdir(filepath.Join(root, "proc"), 0o755); err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]int64{
		"MemTotal:       16314824 kB\nMemFree: 1 kB\n": 16314824 << 10,
		"MemFree: 1 kB\n":                 0,
		"MemTotal: lots\n":                0,
		"MemTotal: 9007199254740991 kB\n": 9007199254740991 << 10,
		"MemTotal: 9007199254740992 kB":   0,
	} {
		if err := os.WriteFile(filepath.Join(root, "proc/meminfo"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if got := telemetry.PhysicalMemory(root); got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
}

func TestTheRuntimeGetsFourFifthsOfTheCgroupUnlessToldOtherwise(t *testing.T) {
	if got := telemetry.RuntimeShare(1000, false); got != 800 {
		t.Errorf("of 1000: %d", got)
	}
	if got := telemetry.RuntimeShare(1000, true); got != 0 {
		t.Errorf("with GOMEMLIMIT: %d", got)
	}
	if got := telemetry.RuntimeShare(math.MaxInt64, false); got != 0 {
		t.Errorf("without a cgroup limit: %d", got)
	}
}

func TestMemoryLimitHeedsGOMEMLIMITButNotWhatItLedTo(t *testing.T) {
	before := debug.SetMemoryLimit(-1)
	defer debug.SetMemoryLimit(before)
	there := telemetry.MemoryLimit()
	if there <= 0 {
		t.Fatalf("memory limit is %d", there)
	}
	if set := telemetry.SetMemoryLimit(); set > 0 && debug.SetMemoryLimit(-1) != set {
		t.Errorf("said it set %d, but %d holds", set, debug.SetMemoryLimit(-1))
	}
	if got := telemetry.MemoryLimit(); got != there {
		t.Errorf("after SetMemoryLimit %d, before %d", got, there)
	}
	debug.SetMemoryLimit(5 << 20)
	if got := telemetry.MemoryLimit(); got != 5<<20 {
		t.Errorf("with a limit of 5 MiB: %d", got)
	}
}
