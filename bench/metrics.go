// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const scrapeTimeout = 10 * time.Second

// sum adds up all series of a metric; −1 = there is none.
func (p *process) sum(ctx context.Context, name string) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, scrapeTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.metrics+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, fmt.Errorf("own metrics: %w", err)
	}
	defer response.Body.Close()
	total, found := 0.0, false
	lines := bufio.NewScanner(response.Body)
	for lines.Scan() {
		series := lines.Text()
		if bare := series[:max(0, strings.IndexAny(series, "{ "))]; bare != name {
			continue
		}
		v, err := strconv.ParseFloat(series[strings.LastIndexByte(series, ' ')+1:], 64)
		if err != nil {
			return 0, fmt.Errorf("own metrics: %s: %w", series, err)
		}
		total, found = total+v, true
	}
	if err := lines.Err(); err != nil {
		return 0, fmt.Errorf("own metrics: %w", err)
	}
	if !found {
		return -1, nil
	}
	return int64(total), nil
}
