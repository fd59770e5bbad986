// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package child

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// maxScrape bounds what is read of the metrics, in bytes.
const maxScrape = 16 << 20

// Doubled is what the collector itself counts as sent again although it may have been taken.
const Doubled = "holdfast_failover_possible_duplicate_items_total"

var client = &http.Client{Timeout: 10 * time.Second}

// Scrape reads the metrics of the process that listens at addr, HOST:PORT.
func Scrape(ctx context.Context, addr string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("read metrics: %w", err)
	}
	defer resp.Body.Close() // it was read
	return io.ReadAll(io.LimitReader(resp.Body, maxScrape))
}

// Sum adds up the series of a name.
func Sum(scrape []byte, name string) (total int64) {
	for l := bufio.NewScanner(bytes.NewReader(scrape)); l.Scan(); {
		rest, found := strings.CutPrefix(l.Text(), name)
		at := strings.LastIndexByte(rest, ' ')
		if !found || at < 0 || rest[0] != '{' && rest[0] != ' ' {
			continue
		}
		if v, err := strconv.ParseFloat(rest[at+1:], 64); err == nil {
			total += int64(v)
		}
	}
	return total
}
