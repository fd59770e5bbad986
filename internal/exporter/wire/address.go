// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	"go.opentelemetry.io/collector/config/configopaque"
	"golang.org/x/net/http/httpguts"
)

// CheckHeaders says which header no request can be sent with: every attempt would fail, whatever the backend does. The
// values are secrets and are not repeated.
func CheckHeaders(headers configopaque.MapList) error {
	var errs []error
	for name, value := range headers.Iter {
		switch {
		case !httpguts.ValidHeaderFieldName(name):
			errs = append(errs, fmt.Errorf("`headers`: %q is not a name that a header can have", name))
		case !httpguts.ValidHeaderFieldValue(string(value)):
			errs = append(errs, fmt.Errorf("`headers`: the value of %q has characters that no header can have", name))
		}
	}
	return errors.Join(errs...)
}

// CheckPort says whether the port of HOST:PORT is none; addresses of other kinds are not looked at.
func CheckPort(address string) error {
	_, port, err := net.SplitHostPort(address)
	if err != nil || port == "" {
		return nil //nolint:nilerror // not of that kind, and judged elsewhere
	}
	if strings.Trim(port, "0123456789") != "" {
		return nil // a service's name
	}
	if n, err := strconv.ParseUint(port, 10, 32); err != nil || n == 0 || n > 65535 {
		return fmt.Errorf("port %s is not between 1 and 65535", port)
	}
	return nil
}
