// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package mockbackend

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/holdfast-telemetry/holdfast/internal/ledger/item"
)

// Fault is what a backend does wrong, as text kind[:value][,key=value…] says it (spec faults.md 8).
type Fault struct {
	Text  string
	Kind  string
	Value string

	// Keys every kind has.
	Signals []item.Signal // nil: all
	Share   float64       // of the requests, by a seeded hash of their content; 1: all
	After   time.Duration // from when it was set
	For     time.Duration // 0: until it is removed
	Count   uint64        // hits until it ends by itself; 0: no end
	Store   *bool         // nil: what is answered OK is stored

	retryAfter string // 5s, -1s, 1y, date
	outcome    outcomeSpec
	low, high  time.Duration // slow, age
	number     int64         // rates, sizes, counts
	percent    float64       // partial
	burst      float64       // capacity
	over       string        // capacity: status, slow, reset
	up, down   time.Duration // flap
	inner      *Fault        // flap
}

// outcomeSpec is what status:CODE answers.
type outcomeSpec struct {
	code codes.Code
	http int
}

// kinds are all faults with the values they take; a nil list takes what its parser accepts.
var kinds = map[string][]string{
	"refuse": {""}, "blackhole": {""}, "drop": {""}, "hang": {""}, "no_compression": {""}, "forget": {""},
	"reset":         {"accept", "headers", "body", "answer"},
	"reject_marked": {"", "whole", "part"},
	"tls":           {"expired", "wrong_name", "unknown_ca", "client_cert", "old"},
	"answer":        {"html", "type", "huge", "endless", "redirect", "none"},
	"slow":          nil, "read_rate": nil, "write_rate": nil, "status": nil, "partial": nil, "max_bytes": nil,
	"capacity": nil, "inflight": nil, "flap": nil, "goaway": nil, "age": nil,
}

// Kinds are the words a fault can begin with, sorted.
func Kinds() []string { return slices.Sorted(maps.Keys(kinds)) }

// ParseFault reads a fault.
func ParseFault(text string) (*Fault, error) {
	f, err := parseFault(text)
	if err != nil {
		return nil, fmt.Errorf("fault %q: %w", text, err)
	}
	return f, nil
}

func parseFault(text string) (*Fault, error) {
	head, rest, _ := strings.Cut(text, ",")
	f := &Fault{Text: text, Share: 1}
	f.Kind, f.Value, _ = strings.Cut(strings.TrimSpace(head), ":")
	values, known := kinds[f.Kind]
	if !known {
		return nil, fmt.Errorf("kind %q is not known", f.Kind)
	}
	if values != nil && !slices.Contains(values, f.Value) {
		return nil, fmt.Errorf("value %q: one of %q is needed", f.Value, values)
	}
	if err := f.parseValue(); err != nil {
		return nil, err
	}
	for rest != "" {
		var pair string
		pair, rest, _ = strings.Cut(rest, ",")
		key, value, found := strings.Cut(strings.TrimSpace(pair), "=")
		if !found {
			return nil, fmt.Errorf("%q: key=value is needed", pair)
		}
		if err := f.parseKey(key, value); err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
	}
	if f.Kind == "flap" && f.inner == nil {
		f.inner = &Fault{Kind: "refuse", Share: 1}
	}
	if f.Kind == "capacity" && f.burst == 0 {
		f.burst = float64(f.number)
	}
	return f, nil
}

func (f *Fault) parseValue() (err error) {
	switch f.Kind {
	case "slow":
		low, high, found := strings.Cut(f.Value, "..")
		if f.low, err = positive(low); err != nil {
			return err
		}
		if f.high = f.low; found {
			f.high, err = positive(high)
		}
		if f.high < f.low {
			return errors.New("the second duration is shorter than the first")
		}
		return err
	case "age":
		f.low, err = positive(f.Value)
		return err
	case "read_rate", "write_rate", "max_bytes", "capacity", "inflight", "goaway":
		f.number, err = strconv.ParseInt(f.Value, 10, 64)
		if err != nil || f.number < 1 {
			return fmt.Errorf("%q: a number above 0 is needed", f.Value)
		}
		f.over = "status"
	case "status":
		f.outcome, err = parseStatus(f.Value)
		return err
	case "partial":
		if share, isShare := strings.CutSuffix(f.Value, "%"); isShare {
			f.percent, err = strconv.ParseFloat(share, 64)
			if err != nil || !(f.percent >= 0 && f.percent <= 100) { // neither is NaN
				return fmt.Errorf("%q: 0%% to 100%% is needed", f.Value)
			}
			f.number = -1
			return nil
		}
		f.number, err = strconv.ParseInt(f.Value, 10, 64)
		if err != nil || f.number < 0 {
			return fmt.Errorf("%q: a number or a percentage is needed", f.Value)
		}
	case "flap":
		up, down, found := strings.Cut(f.Value, "/")
		if !found {
			return fmt.Errorf("%q: UP/DOWN is needed", f.Value)
		}
		if f.up, err = positive(up); err != nil {
			return err
		}
		f.down, err = positive(down)
		return err
	}
	return nil
}

func (f *Fault) parseKey(key, value string) (err error) {
	switch key {
	case "signals":
		for word := range strings.SplitSeq(value, "+") {
			s, ok := item.ParseSignal(word)
			if !ok {
				return fmt.Errorf("signal %q is not known", word)
			}
			f.Signals = append(f.Signals, s)
		}
	case "share":
		f.Share, err = strconv.ParseFloat(value, 64)
		if err != nil || !(f.Share >= 0 && f.Share <= 1) { // neither is NaN
			return fmt.Errorf("%q: 0 to 1 is needed", value)
		}
	case "after":
		f.After, err = time.ParseDuration(value)
	case "for":
		f.For, err = positive(value)
	case "count":
		f.Count, err = strconv.ParseUint(value, 10, 63)
	case "store":
		var v bool
		v, err = strconv.ParseBool(value)
		f.Store = &v
	case "retry_after":
		_, _, err = retryAfter(value, time.Time{})
		f.retryAfter = value
	case "burst":
		if f.burst, err = strconv.ParseFloat(value, 64); err == nil && !(f.burst > 0 && f.burst < 1e15) {
			err = errors.New("a number above 0 is needed")
		}
	case "over":
		if f.Kind != "capacity" || !slices.Contains([]string{"status", "slow", "reset"}, value) {
			return errors.New("status, slow or reset is needed, and only capacity takes it")
		}
		f.over = value
	case "fault":
		if f.Kind != "flap" {
			return errors.New("only flap takes it")
		}
		if strings.HasPrefix(value, "flap") {
			return errors.New("a flap in a flap")
		}
		f.inner, err = parseFault(value)
	default:
		return errors.New("key is not known")
	}
	return err
}

func positive(text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if err == nil && d <= 0 {
		err = fmt.Errorf("%q: a duration above 0 is needed", text)
	}
	return d, err
}

// forSignal reports whether the fault is for requests of s.
func (f *Fault) forSignal(s item.Signal) bool {
	return f.Signals == nil || slices.Contains(f.Signals, s)
}

// rejected is how many of n items a partial success refuses.
func (f *Fault) rejected(n int) int {
	if f.number < 0 {
		return int(f.percent/100*float64(n) + 0.5)
	}
	return int(min(f.number, int64(n)))
}

// dateHint is how far away the date is that retry_after=date names.
const dateHint = 10 * time.Second

// retryAfter reads a hint: the delay, and the header for HTTP.
func retryAfter(text string, now time.Time) (delay time.Duration, header string, err error) {
	switch {
	case text == "":
		return 0, "", nil
	case text == "date":
		return dateHint, now.Add(dateHint).UTC().Format("Mon, 02 Jan 2006 15:04:05 GMT"), nil
	}
	days, isLong := strings.CutSuffix(text, "y")
	factor := 365 * 24 * time.Hour
	if !isLong {
		days, isLong = strings.CutSuffix(text, "d")
		factor = 24 * time.Hour
	}
	if isLong {
		n, err := strconv.ParseInt(days, 10, 16)
		if err != nil {
			return 0, "", err
		}
		delay = time.Duration(n) * factor
	} else if delay, err = time.ParseDuration(text); err != nil {
		return 0, "", err
	}
	return delay, strconv.Itoa(int(math.Ceil(delay.Seconds()))), nil
}

var errStatus = errors.New("the name of a gRPC code or an HTTP status is needed")

// parseStatus reads a code for either protocol and maps it to the other.
func parseStatus(text string) (outcomeSpec, error) {
	if n, err := strconv.Atoi(text); err == nil {
		if n < 200 || n > 599 {
			return outcomeSpec{}, errStatus
		}
		return outcomeSpec{code: codeOfHTTP(n), http: n}, nil
	}
	for c := codes.OK; c <= codes.Unauthenticated; c++ {
		if strings.EqualFold(codeName(c), text) || strings.EqualFold(c.String(), text) {
			return outcomeSpec{code: c, http: httpOfCode(c)}, nil
		}
	}
	return outcomeSpec{}, errStatus
}

func codeOfHTTP(n int) codes.Code {
	switch n {
	case 401:
		return codes.Unauthenticated
	case 403:
		return codes.PermissionDenied
	case 404, 405, 415, 501:
		return codes.Unimplemented
	case 408, 504:
		return codes.DeadlineExceeded
	case 413, 429:
		return codes.ResourceExhausted
	case 499:
		return codes.Canceled
	case 502, 503:
		return codes.Unavailable
	case 500:
		return codes.Internal
	}
	switch {
	case n < 300:
		return codes.OK
	case n >= 400 && n < 500:
		return codes.InvalidArgument
	}
	return codes.Unknown
}

func httpOfCode(c codes.Code) int {
	switch c {
	case codes.OK:
		return 200
	case codes.Canceled:
		return 499
	case codes.InvalidArgument, codes.FailedPrecondition, codes.OutOfRange:
		return 400
	case codes.DeadlineExceeded:
		return 504
	case codes.NotFound:
		return 404
	case codes.AlreadyExists, codes.Aborted:
		return 409
	case codes.PermissionDenied:
		return 403
	case codes.ResourceExhausted:
		return 429
	case codes.Unimplemented:
		return 501
	case codes.Unavailable:
		return 503
	case codes.Unauthenticated:
		return 401
	}
	return 500
}
