package httpapi

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"passbook/internal/account"
	"passbook/internal/httpapi/genapi"
	"passbook/internal/httpapi/request"
)

func TestBindingProblem(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		err  error
		want genapi.FieldError
	}{
		{&genapi.InvalidParamFormatError{ParamName: "limit"}, genapi.FieldError{Parameter: "limit", Code: "invalid", Detail: "limit is not valid"}},
		{&genapi.RequiredParamError{ParamName: "limit"}, genapi.FieldError{Parameter: "limit", Code: "invalid", Detail: "limit is required"}},
		{
			&genapi.TooManyValuesForParamError{ParamName: "If-Match"},
			genapi.FieldError{Header: "If-Match", Code: "invalid", Detail: "If-Match is given more than once"},
		},
	} {
		if p := problemOf(bindingProblem(tt.err)); len(p.body.Errors) != 1 || p.body.Errors[0] != tt.want || p.body.Status != 400 {
			t.Errorf("%v: %+v", tt.err, p.body)
		}
	}
	if p := problemOf(bindingProblem(errors.New("other"))); p.body.Status != 400 || strings.Contains(p.body.Detail, "other") {
		t.Errorf("%+v", p.body)
	}
}

func TestEveryKnownErrorHasItsOwnProblem(t *testing.T) {
	t.Parallel()
	for _, k := range known {
		p := problemOf(fmt.Errorf("wrapped: %w", k.err))
		if p == nil || p.body.Code != k.kind.code || p.body.Status != k.kind.status {
			t.Errorf("%v: %+v", k.err, p)
		}
		if (k.kind.status == 503) != (k.retryAfter > 0) && k.kind != kindKeyInFlight {
			t.Errorf("%v: Retry-After goes with 503", k.err)
		}
	}
	if p := problemOf(&account.Refusal{Code: "x", Detail: "y"}); p.body.Errors != nil {
		t.Errorf("%+v", p.body)
	}
}

func TestEveryReasonHasAStatus(t *testing.T) {
	t.Parallel()
	for reason := request.InvalidJSON; reason <= request.BodyTooLarge; reason++ {
		p := problemOf(&request.Error{Reason: reason, Detail: "x"})
		if p == nil || p.body.Status < 400 || p.body.Status > 499 || p.body.Code == "" {
			t.Errorf("reason %d: %+v", reason, p)
		}
	}
}
