package compat

import (
	"net/http"
	"strings"
)

// code is an error of requirement B1.
type code string

// The codes of requirement B1.
const (
	codeMissing   code = "10-001"
	codeLong      code = "10-002"
	codeRange     code = "10-003"
	codeDate      code = "10-004"
	codeForm      code = "11-006"
	codeNotFound  code = "12-001"
	codeLogin     code = "13-001"
	codeForbidden code = "13-002"
	codeAddress   code = "13-003"
	codeCrowded   code = "14-001"
	codeTrouble   code = "15-001"
)

// meaning is what a code says.
type meaning struct {
	status int
	en, ja string
}

func (c code) meaning() meaning {
	switch c {
	case codeMissing:
		return meaning{http.StatusBadRequest, "A required parameter is missing.", "必須パラメータが指定されていません。"}
	case codeLong:
		return meaning{http.StatusBadRequest, "The value is too long.", "値が長すぎます。"}
	case codeRange:
		return meaning{http.StatusBadRequest, "The value is out of range or of the wrong type.", "値の範囲または型が正しくありません。"}
	case codeDate:
		return meaning{http.StatusBadRequest, "The date is not allowed: it lies in the future, the period is reversed, or it is too long.",
			"指定できない日時です(未来の日時、期間の逆転、または期間が長すぎます)。"}
	case codeForm:
		return meaning{http.StatusBadRequest, "The address or the JSON is malformed.", "アドレスまたはJSONの形式が正しくありません。"}
	case codeNotFound:
		return meaning{http.StatusNotFound, "It was not found.", "対象が見つかりません。"}
	case codeLogin:
		return meaning{http.StatusUnauthorized, "The authentication failed.", "認証に失敗しました。"}
	case codeForbidden:
		return meaning{http.StatusForbidden, "The API user has no permission for this action.", "この操作を行う権限がありません。"}
	case codeAddress:
		return meaning{http.StatusForbidden, "Access from this IP address, or without HTTPS, is not permitted.",
			"このIPアドレスから、またはHTTPS以外でのアクセスは許可されていません。"}
	case codeCrowded:
		return meaning{http.StatusTooManyRequests, "There are too many connections.", "同時接続数が多すぎます。"}
	}
	return meaning{http.StatusServiceUnavailable, "There is a temporary internal failure.", "一時的な内部エラーが発生しました。"}
}

// fault is one thing that is wrong with a call.
type fault struct {
	Code    string `json:"code" xml:"code"`
	Field   string `json:"field" xml:"field"`
	Message string `json:"message" xml:"message"`
}

// faults is an answer that refuses a call. The status is that of the first.
type faults struct {
	status int
	list   []fault
	ja     bool
}

// Error makes faults an error.
func (f *faults) Error() string { return f.list[0].Code + " " + f.list[0].Field }

// add names one more thing that is wrong.
func (f *faults) add(c code, field string) {
	m := c.meaning()
	if len(f.list) == 0 {
		f.status = m.status
	}
	text := m.en
	if f.ja {
		text = m.ja
	}
	f.list = append(f.list, fault{string(c), field, text})
}

// japanese tells whether the caller asks for Japanese first (requirement B1: anything else is English).
func japanese(r *http.Request) bool {
	first, _, _ := strings.Cut(r.Header.Get("Accept-Language"), ",")
	first, _, _ = strings.Cut(first, ";")
	first, _, _ = strings.Cut(strings.TrimSpace(first), "-")
	return strings.EqualFold(first, "ja")
}
