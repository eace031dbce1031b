package main

import (
	"fmt"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/status"
)

// refusal is what an error of a gateway holds.
type refusal struct {
	code       string
	message    string
	reason     string        // the constant one of docs/errors.md
	fields     []string      // what is at fault, and why
	retryAfter time.Duration // 0: coming back is no use, or may be tried at any time
}

func detailsOf(err error) refusal {
	told := status.Convert(err)
	found := refusal{code: told.Code().String(), message: told.Message()}
	for _, detail := range told.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			found.reason = detail.Reason
		case *errdetails.BadRequest:
			for _, each := range detail.FieldViolations {
				found.fields = append(found.fields, each.Field+": "+each.Description)
			}
		case *errdetails.RetryInfo:
			delay := detail.RetryDelay
			found.retryAfter = time.Duration(delay.GetSeconds())*time.Second + time.Duration(delay.GetNanos())
		}
	}
	return found
}

func (r refusal) String() string {
	line := strings.TrimSpace(r.code + " " + r.reason)
	if r.retryAfter > 0 {
		line += fmt.Sprintf("; come back in %v", r.retryAfter)
	}
	return strings.Join(append([]string{line}, r.fields...), "\n")
}
