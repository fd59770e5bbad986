// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package item_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/holdfast-telemetry/holdfast/internal/ledger/item"
	"github.com/holdfast-telemetry/holdfast/internal/loadgen"
)

const base = 1_795_000_000_000_000

func maker() *loadgen.Maker { return &loadgen.Maker{Run: "tale", BaseMicro: base, ItemBytes: 60} }

func read(t *testing.T, s item.Signal, isJSON bool, body []byte) item.Content {
	t.Helper()
	c := item.NewChecker()
	c.Know("tale", base)
	out, err := c.Read(s, isJSON, body, nil)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// forms calls check for every signal in both forms.
func forms(t *testing.T, check func(t *testing.T, s item.Signal, isJSON bool, make func(*loadgen.Maker, loadgen.Batch) []byte)) {
	for _, s := range item.Signals {
		t.Run(s.String()+" protobuf", func(t *testing.T) {
			check(t, s, false, func(m *loadgen.Maker, q loadgen.Batch) []byte { return m.Proto(nil, q) })
		})
		t.Run(s.String()+" JSON", func(t *testing.T) {
			check(t, s, true, func(m *loadgen.Maker, q loadgen.Batch) []byte { return m.JSON(nil, q) })
		})
	}
}

func TestEveryItemIsRecognised(t *testing.T) {
	forms(t, func(t *testing.T, s item.Signal, isJSON bool, build func(*loadgen.Maker, loadgen.Batch) []byte) {
		for _, n := range []uint64{1, 2, 4, 5, 7, 512} {
			m := maker()
			out := read(t, s, isJSON, build(m, loadgen.Batch{Signal: s, Producer: 65535, Request: 3, First: 1000, Last: 999 + n}))
			if out.Items != int(n) || len(out.Ranges) != 1 || out.Foreign+out.Damaged != 0 {
				t.Fatalf("%d items: %+v", n, out)
			}
			r := out.Ranges[0]
			if r.Run.Name != "tale" || r.Producer != 65535 || r.Request != 3 || r.First != 1000 || r.Last != 999+n || r.Flags != 0 {
				t.Errorf("%d items: %+v", n, r)
			}
		}
	})
}

func TestPoisonIsSeen(t *testing.T) {
	forms(t, func(t *testing.T, s item.Signal, isJSON bool, build func(*loadgen.Maker, loadgen.Batch) []byte) {
		m := maker()
		m.PoisonEvery = 4
		out := read(t, s, isJSON, build(m, loadgen.Batch{Signal: s, Producer: 1, Request: 1, First: 1, Last: 10}))
		var poisoned []uint64
		for _, r := range out.Ranges {
			if r.Flags == item.Poison {
				poisoned = append(poisoned, r.First)
			}
		}
		if fmt.Sprint(poisoned) != "[4 8]" || out.Items != 10 {
			t.Errorf("%+v", out)
		}
	})
}

func TestAnyChangedByteOfAnIdentityIsNoticed(t *testing.T) {
	forms(t, func(t *testing.T, s item.Signal, isJSON bool, build func(*loadgen.Maker, loadgen.Batch) []byte) {
		body := build(maker(), loadgen.Batch{Signal: s, Producer: 7, Request: 1, First: 41, Last: 41})
		good := fmt.Sprintf("%+v", shape(read(t, s, isJSON, body)))
		noticed, same := 0, 0
		for i := range body {
			spoilt := bytes.Clone(body)
			spoilt[i] ^= 0x04
			c := item.NewChecker()
			c.Know("tale", base)
			out, err := c.Read(s, isJSON, spoilt, nil)
			switch {
			case err != nil || fmt.Sprintf("%+v", shape(out)) != good:
				noticed++
			default:
				same++
			}
		}
		// What is neither identity nor padding nor structure may change unseen: names, severities, end times, buckets.
		if noticed < len(body)/4 {
			t.Errorf("%d changes noticed, %d not", noticed, same)
		}
		pad := item.AppendPad(nil, item.TagOf("tale"), item.ID{Signal: s, Producer: 7, Seq: 41}, 60)
		at := bytes.Index(body, pad)
		if at < 0 {
			t.Fatal("no padding in the body")
		}
		for i := at; i < at+len(pad); i++ {
			spoilt := bytes.Clone(body)
			if spoilt[i] ^= 0x01; spoilt[i] == '\\' {
				continue // an escape in JSON, and none that exists
			}
			if out := read(t, s, isJSON, spoilt); len(out.Ranges) != 1 || out.Ranges[0].Flags != item.Corrupted {
				t.Fatalf("padding byte %d: %+v", i-at, out)
			}
		}
	})
}

func shape(c item.Content) []string {
	var out []string
	for _, r := range c.Ranges {
		out = append(out, fmt.Sprint(r.Run.Label(), r.Producer, r.Request, r.First, r.Last, r.Flags))
	}
	return append(out, fmt.Sprint(c.Items, c.Foreign, c.Damaged))
}

func TestCarriersThatDisagreeAreCorrupted(t *testing.T) {
	for _, c := range []struct {
		name     string
		signal   item.Signal
		from, to string
	}{
		{"trace ID of another producer", item.Traces, `"traceId":"` + hexTrace(1, 5), `"traceId":"` + hexTrace(2, 5)},
		{"span ID of another item", item.Traces, `"spanId":"0000000000000005`, `"spanId":"0000000000000006`},
		{"start off by a microsecond", item.Traces, nanos(5), nanos(6)},
		{"no trace ID", item.Traces, `"traceId":"` + hexTrace(1, 5) + `",`, ``},
		{"identity of another item", item.Logs, `"stringValue":"tale/l/1/5"`, `"stringValue":"tale/l/1/6"`},
		{"identity of another signal", item.Logs, `"stringValue":"tale/l/1/5"`, `"stringValue":"tale/s/1/5"`},
		{"body of another item", item.Logs, `"stringValue":"tale/l/1/5 is`, `"stringValue":"tale/l/1/55 is`},
		{"body that is no text", item.Logs, `"body":{"stringValue":"tale/l/1/5 is a log record of the ledger"}`, `"body":{"intValue":"5"}`},
		{"log time", item.Logs, `"timeUnixNano":"` + nanos(5), `"timeUnixNano":"` + nanos(4)},
		{"value of another item", item.Metrics, `"asInt":"5"`, `"asInt":"6"`},
		{"no value", item.Metrics, `"asInt":"5",`, ``},
		{"padding without an identity", item.Traces, `{"key":"holdfast.id","value":{"stringValue":"tale/s/1/5"}},`, ``},
		{"identity without padding", item.Traces, `{"key":"holdfast.pad"`, `{"key":"holdfast.sad"`},
	} {
		m := maker()
		request := uint64(1) // part 0 of request 1 is of kind 1, a sum
		body := string(m.JSON(nil, loadgen.Batch{Signal: c.signal, Producer: 1, Request: request, First: 5, Last: 5}))
		if c.signal == item.Metrics {
			// One item falls into the last fifth.
			body = string(m.JSON(nil, loadgen.Batch{Signal: c.signal, Producer: 1, Request: 2, First: 5, Last: 5}))
		}
		spoilt := strings.Replace(body, c.from, c.to, 1)
		if spoilt == body {
			t.Fatalf("%s: nothing to replace in %s", c.name, body)
		}
		out := read(t, c.signal, true, []byte(spoilt))
		want := item.Corrupted
		if c.name == "padding without an identity" {
			want = item.Stripped // the padding was checked against the second carrier, and is right
		}
		if len(out.Ranges) != 1 || out.Ranges[0].Flags != want {
			t.Errorf("%s: %+v", c.name, out)
		}
	}
}

func hexTrace(producer uint16, seq uint64) string {
	return fmt.Sprintf("%x", item.TraceID(item.TagOf("tale"), producer, seq))
}

func nanos(seq uint64) string {
	return fmt.Sprint(item.Nanos(base, item.ID{Signal: item.Traces, Seq: seq}))
}

// edit changes every item of a JSON request.
func edit(t *testing.T, body []byte, change func(item map[string]any)) []byte {
	t.Helper()
	var doc any
	if err := json.Unmarshal(body, &doc); err != nil {
		t.Fatal(err)
	}
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			if _, ok := v["attributes"]; ok && (v["timeUnixNano"] != nil || v["startTimeUnixNano"] != nil) {
				change(v)
			}
			for _, in := range v {
				walk(in)
			}
		case []any:
			for _, in := range v {
				walk(in)
			}
		}
	}
	walk(doc)
	out, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestItemsWithoutAttributesAreRecognisedByTheirSecondCarrier(t *testing.T) {
	for _, s := range item.Signals {
		body := maker().JSON(nil, loadgen.Batch{Signal: s, Producer: 9, Request: 2, First: 11, Last: 20})
		bare := edit(t, body, func(i map[string]any) { delete(i, "attributes") })
		out := read(t, s, true, bare)
		if len(out.Ranges) != 1 || out.Ranges[0].Flags != item.Stripped || out.Ranges[0].First != 11 || out.Ranges[0].Last != 20 ||
			out.Ranges[0].Producer != 9 {
			t.Errorf("%s: %+v", s, out)
		}
	}
}

func TestForeignItemsAreCountedAndLeftAlone(t *testing.T) {
	foreign := `{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"0102030405060708090a0b0c0d0e0f10","spanId":"0102030405060708",
		"startTimeUnixNano":1,"attributes":[{"key":"http.method","value":{"stringValue":"GET"}}]},{}]}]}]}`
	if out := read(t, item.Traces, true, []byte(foreign)); out.Items != 2 || out.Foreign != 2 || len(out.Ranges) != 0 {
		t.Errorf("%+v", out)
	}
	damaged := strings.Replace(foreign, `"http.method","value":{"stringValue":"GET"`, `"holdfast.id","value":{"stringValue":"tale/s/1/05"`, 1)
	if out := read(t, item.Traces, true, []byte(damaged)); out.Damaged != 1 || out.Foreign != 1 {
		t.Errorf("%+v", out)
	}
	metrics := `{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"x","gauge":{"dataPoints":[{"asDouble":1.5},{"asInt":3},{"asDouble":"NaN"}]}}]}]}]}`
	if out := read(t, item.Metrics, true, []byte(metrics)); out.Items != 3 || out.Foreign != 3 {
		t.Errorf("%+v", out)
	}
}

func TestACheckerLearnsTheBaseAndHoldsAllToIt(t *testing.T) {
	c := item.NewChecker()
	q := loadgen.Batch{Signal: item.Traces, Producer: 1, Request: 1, First: 1, Last: 3}
	out, err := c.Read(item.Traces, false, maker().Proto(nil, q), nil)
	if err != nil || len(out.Ranges) != 1 || out.Ranges[0].Flags != 0 || c.Base(out.Ranges[0].Run) != base {
		t.Fatalf("%v %+v", err, out)
	}
	late := &loadgen.Maker{Run: "tale", BaseMicro: base + 1, ItemBytes: 60}
	out, err = c.Read(item.Traces, false, late.Proto(nil, q), nil)
	if err != nil || len(out.Ranges) != 1 || out.Ranges[0].Flags != item.Corrupted {
		t.Fatalf("%v %+v", err, out)
	}
}

func TestJoinedRequestsAreRead(t *testing.T) {
	m := maker()
	body := m.Proto(nil, loadgen.Batch{Signal: item.Logs, Producer: 1, Request: 1, First: 1, Last: 5})
	body = m.Proto(body, loadgen.Batch{Signal: item.Logs, Producer: 2, Request: 9, First: 41, Last: 45})
	body = m.Proto(body, loadgen.Batch{Signal: item.Logs, Producer: 1, Request: 2, First: 6, Last: 10})
	out := read(t, item.Logs, false, body)
	if out.Items != 15 || len(out.Ranges) != 3 || out.Ranges[1].Request != 9 || out.Ranges[2].First != 6 {
		t.Errorf("%+v", out)
	}
}

func TestAResourceBehindItsItemsCountsToo(t *testing.T) {
	body := maker().Proto(nil, loadgen.Batch{Signal: item.Traces, Producer: 1, Request: 4, First: 1, Last: 2})
	_, _, n := protowire.ConsumeTag(body)
	group, _ := protowire.ConsumeBytes(body[n:])
	_, _, n = protowire.ConsumeTag(group)
	resource, m := protowire.ConsumeBytes(group[n:])
	turned := append(bytes.Clone(group[n+m:]), protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), resource)...)
	turned = protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), turned)
	if out := read(t, item.Traces, false, turned); len(out.Ranges) != 1 || out.Ranges[0].Request != 4 {
		t.Errorf("%+v", out)
	}
}

func TestIdentitiesHaveOneSpelling(t *testing.T) {
	for _, text := range []string{"", "tale", "tale/s/1", "tale/s/1/", "tale/s//1", "tale/s/0/1", "tale/s/1/0", "tale/s/01/1", "tale/s/1/+1",
		"tale/s/65536/1", "tale/x/1/1", "tale/ss/1/1", "Tale/s/1/1", "/s/1/1", "tale/s/1/1/1", "tale/s/1/99999999999999999999",
		strings.Repeat("a", 33) + "/s/1/1"} {
		if run, id, ok := item.ParseID([]byte(text)); ok {
			t.Errorf("%q is %s %v", text, run, id)
		}
	}
	want := item.ID{Signal: item.Logs, Producer: 3, Seq: 18204}
	run, id, ok := item.ParseID(item.AppendID(nil, "outage-1", want))
	if !ok || string(run) != "outage-1" || id != want {
		t.Errorf("%s %v %v", run, id, ok)
	}
}

func TestPaddingIsAsLongAsAskedOnAverage(t *testing.T) {
	tag := item.TagOf("tale")
	for _, mean := range []int{0, 1, 40, 400} {
		sum := 0
		for seq := range uint64(2000) {
			id := item.ID{Signal: item.Traces, Producer: 1, Seq: seq + 1}
			text := item.AppendPad(nil, tag, id, mean)
			sum += len(text)
			other := item.ID{Signal: item.Traces, Producer: 2, Seq: seq + 1}
			if !item.CheckPad(text, tag, id) || mean >= 40 && item.CheckPad(text, tag, other) ||
				item.CheckPad(text[:len(text)-1], tag, id) || item.CheckPad(append(text, 'a'), tag, id) {
				t.Fatalf("mean %d: %q", mean, text)
			}
		}
		if avg := float64(sum) / 2000; mean >= 40 && (avg < 0.95*float64(mean) || avg > 1.05*float64(mean)) {
			t.Errorf("mean %d: %.1f", mean, avg)
		}
	}
}

// FuzzRead: no bytes make a checker panic, and the count of items is what it says.
func FuzzRead(f *testing.F) {
	for i, s := range item.Signals {
		q := loadgen.Batch{Signal: s, Producer: 1, Request: 1, First: 1, Last: 6}
		f.Add(byte(i), false, maker().Proto(nil, q))
		f.Add(byte(i), true, maker().JSON(nil, q))
	}
	f.Fuzz(func(t *testing.T, signal byte, isJSON bool, body []byte) {
		s := item.Signals[int(signal)%len(item.Signals)]
		out, err := item.NewChecker().Read(s, isJSON, body, nil)
		if err != nil {
			return
		}
		n := out.Foreign + out.Damaged
		for _, r := range out.Ranges {
			if r.First == 0 || r.Last < r.First || r.Producer == 0 {
				t.Fatalf("range %+v", r)
			}
			n += r.Items()
		}
		if n != out.Items {
			t.Fatalf("%d items in %+v", n, out)
		}
	})
}

func BenchmarkRead(b *testing.B) {
	for _, s := range item.Signals {
		b.Run(s.String(), func(b *testing.B) {
			m := &loadgen.Maker{Run: "tale", BaseMicro: base, ItemBytes: 400}
			body := m.Proto(nil, loadgen.Batch{Signal: s, Producer: 1, Request: 1, First: 1, Last: 512})
			c := item.NewChecker()
			b.SetBytes(int64(len(body)))
			for b.Loop() {
				if _, err := c.Read(s, false, body, nil); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(512*float64(b.N)/b.Elapsed().Seconds(), "items/s")
		})
	}
}

func BenchmarkMake(b *testing.B) {
	for _, s := range item.Signals {
		b.Run(s.String(), func(b *testing.B) {
			m := &loadgen.Maker{Run: "tale", BaseMicro: base, ItemBytes: 400}
			var body []byte
			for b.Loop() {
				body = m.Proto(body[:0], loadgen.Batch{Signal: s, Producer: 1, Request: 1, First: 1, Last: 512})
			}
			b.ReportMetric(512*float64(b.N)/b.Elapsed().Seconds(), "items/s")
		})
	}
}
