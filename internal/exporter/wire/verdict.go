// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"net/http"

	"github.com/holdfast-telemetry/holdfast/internal/exporter"
)

// VerdictOfHTTP is the verdict of an HTTP status that is not a success (compat, section 10). A delay named by the
// answer is the caller's to add. Statuses of the 200s get here when what came with them was no OTLP answer.
func VerdictOfHTTP(status int) exporter.Verdict {
	switch status {
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout,
		http.StatusMisdirectedRequest, http.StatusTooEarly:
		return exporter.Verdict{Kind: exporter.Retry}
	case http.StatusTooManyRequests:
		return exporter.Verdict{Kind: exporter.RetryAfter}
	case http.StatusRequestTimeout:
		return exporter.Verdict{Kind: exporter.Ambiguous}
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusMethodNotAllowed,
		http.StatusProxyAuthRequired, http.StatusGone, http.StatusUnsupportedMediaType, http.StatusNotImplemented,
		http.StatusHTTPVersionNotSupported:
		return exporter.Verdict{Kind: exporter.Misconfigured}
	case http.StatusBadRequest, http.StatusConflict, http.StatusUnprocessableEntity:
		return exporter.Verdict{Kind: exporter.Rejected}
	case http.StatusRequestEntityTooLarge:
		return exporter.Verdict{Kind: exporter.Rejected, TooLarge: true}
	}
	if status >= 200 && status < 400 {
		return exporter.Verdict{Kind: exporter.Misconfigured}
	}
	return exporter.Verdict{Kind: exporter.Retry, Unclear: true}
}
