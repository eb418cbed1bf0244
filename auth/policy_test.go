package auth

import (
	"strings"
	"testing"
)

const topicARN = "arn:aws:sns:default:t1:topic"

func TestPolicy_Evaluate(t *testing.T) {
	st := func(fields string) string { return `{"Version":"2012-10-17","Statement":[{` + fields + `}]}` }
	const all = `"Action":"sns:*","Resource":"*"`
	tests := []struct {
		name, doc string
		who       []string
		action    string
		want      Decision
	}{
		{"everybody", st(`"Effect":"Allow","Principal":"*",` + all), []string{"x"}, "sns:Publish", Allow},
		{"everybody, anonymous", st(`"Effect":"Allow","Principal":"*",` + all), nil, "sns:Publish", Allow},
		{"AWS star", st(`"Effect":"Allow","Principal":{"AWS":"*"},` + all), nil, "sns:Publish", Allow},
		{"user", st(`"Effect":"Allow","Principal":{"AWS":["arn:aws:iam::t1:user/u","z"]},` + all), []string{"arn:aws:iam::t1:user/u"}, "sns:Publish", Allow},
		{"no tenant", st(`"Effect":"Allow","Principal":{"AWS":"arn:aws:iam:::user/u"},` + all), []string{"arn:aws:iam:::user/u"}, "sns:Publish", Allow},
		{"other user", st(`"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::t1:user/u"},` + all), []string{"arn:aws:iam::t1:user/v"}, "sns:Publish", None},
		{"tenant", st(`"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::t1:root"},` + all), (Identity{User: &User{ID: "u", Tenant: "t1"}}).Principals(), "sns:Publish", Allow},
		{"wildcard user", st(`"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::t1:user/*"},` + all), []string{"arn:aws:iam::t1:user/v"}, "sns:Publish", Allow},
		{"service", st(`"Effect":"Allow","Principal":{"Service":"s3.amazonaws.com"},` + all), []string{"x"}, "sns:Publish", None},
		{"not principal", st(`"Effect":"Deny","NotPrincipal":{"AWS":"me"},` + all), []string{"x"}, "sns:Publish", Deny},
		{"not principal, me", st(`"Effect":"Deny","NotPrincipal":{"AWS":"me"},` + all), []string{"me"}, "sns:Publish", None},
		{"not principal, nobody named", st(`"Effect":"Deny","NotPrincipal":{"Service":"me"},` + all), []string{"me"}, "sns:Publish", Deny},
		{"action list", st(`"Effect":"Allow","Principal":"*","Action":["sns:GetTopicAttributes","sns:Publish"],"Resource":"*"`), nil, "sns:Publish", Allow},
		{"action case", st(`"Effect":"Allow","Principal":"*","Action":"SNS:publish","Resource":"*"`), nil, "sns:Publish", Allow},
		{"other action", st(`"Effect":"Allow","Principal":"*","Action":"sns:Publish","Resource":"*"`), nil, "sns:DeleteTopic", None},
		{"action pattern", st(`"Effect":"Allow","Principal":"*","Action":"sns:?etTopic*","Resource":"*"`), nil, "sns:SetTopicAttributes", Allow},
		{"not action", st(`"Effect":"Allow","Principal":"*","NotAction":"sns:DeleteTopic","Resource":"*"`), nil, "sns:DeleteTopic", None},
		{"resource", st(`"Effect":"Allow","Principal":"*","Action":"*","Resource":"` + topicARN + `"`), nil, "sns:Publish", Allow},
		{"other resource", st(`"Effect":"Allow","Principal":"*","Action":"*","Resource":"` + topicARN + `x"`), nil, "sns:Publish", None},
		{"resource pattern", st(`"Effect":"Allow","Principal":"*","Action":"*","Resource":"arn:aws:sns:*:t1:to*c"`), nil, "sns:Publish", Allow},
		{"not resource", st(`"Effect":"Deny","Principal":"*","Action":"*","NotResource":"` + topicARN + `"`), nil, "sns:Publish", None},
		{"conditional allow", st(`"Effect":"Allow","Principal":"*",` + all + `,"Condition":{"StringEquals":{"a":"b"}}`), nil, "sns:Publish", None},
		{"conditional deny", st(`"Effect":"Deny","Principal":"*",` + all + `,"Condition":{"StringEquals":{"a":["b"]}}`), nil, "sns:Publish", Deny},
		{"empty condition", st(`"Effect":"Allow","Principal":"*",` + all + `,"Condition":{}`), nil, "sns:Publish", None},
		{"deny wins", `{"Statement":[{"Effect":"Deny","Principal":"*",` + all + `},{"Effect":"Allow","Principal":"*",` + all + `}]}`, nil, "sns:Publish", Deny},
		{"deny wins, behind", `{"Statement":[{"Effect":"Allow","Principal":"*",` + all + `},{"Effect":"Deny","Principal":"*",` + all + `}]}`, nil, "sns:Publish", Deny},
		{"one statement", `{"Statement":{"Effect":"Allow","Principal":"*",` + all + `}}`, nil, "sns:Publish", Allow},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, err := ParsePolicy([]byte(tt.doc))
			if err != nil {
				t.Fatal(err)
			}
			if got := p.Evaluate(PolicyRequest{tt.who, tt.action, topicARN}); got != tt.want {
				t.Errorf("Evaluate = %v, want %v", got, tt.want)
			}
		})
	}
}

func TestParsePolicy_Malformed(t *testing.T) {
	for _, doc := range []string{
		``, `{}`, `[]`, `null`, `"x"`, `{"Statement":[]}`, `{"Statement":null}`, `{"Statement":[{}]}`,
		`{"Version":"2020-01-01","Statement":[{"Effect":"Allow","Principal":"*","Action":"*","Resource":"*"}]}`,
		`{"Statement":[{"Effect":"Permit","Principal":"*","Action":"*","Resource":"*"}]}`,
		`{"Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`,
		`{"Statement":[{"Effect":"Allow","Principal":"me","Action":"*","Resource":"*"}]}`,
		`{"Statement":[{"Effect":"Allow","Principal":{"Martian":"*"},"Action":"*","Resource":"*"}]}`,
		`{"Statement":[{"Effect":"Allow","Principal":"*","NotPrincipal":"*","Action":"*","Resource":"*"}]}`,
		`{"Statement":[{"Effect":"Allow","Principal":"*","Resource":"*"}]}`,
		`{"Statement":[{"Effect":"Allow","Principal":"*","Action":"*"}]}`,
		`{"Statement":[{"Effect":"Allow","Principal":"*","Action":5,"Resource":"*"}]}`,
		`{"Statement":[{"Effect":"Allow","Principal":"*","Action":"*","Resource":"*","Surprise":1}]}`,
		`{"Statement":[{"Effect":"Allow","Principal":"*","Action":"*","Resource":"*"}]} x`,
		`{"Statement":[{"Effect":"Allow","Principal":"*","Action":"*","Resource":"` + strings.Repeat("x", MaxPolicySize) + `"}]}`,
	} {
		if _, err := ParsePolicy([]byte(doc)); code(err) != CodeMalformedPolicy {
			t.Errorf("ParsePolicy(%.80s) = %v", doc, err)
		}
	}
}

func TestGlob(t *testing.T) {
	for _, tt := range []struct {
		pattern, s string
		want       bool
	}{
		{"", "", true}, {"", "a", false}, {"*", "", true}, {"**", "abc", true}, {"?", "", false}, {"?", "a", true},
		{"a*c", "abbc", true}, {"a*c", "abbd", false}, {"a*b*c", "aXbYbZc", true}, {"*a", "aaab", false},
		{"*a?", "aaab", true}, {"a", "ab", false}, {"ab", "a", false}, {"a*", "a", true},
	} {
		if got := glob(tt.pattern, tt.s); got != tt.want {
			t.Errorf("glob(%q, %q) = %t", tt.pattern, tt.s, got)
		}
	}
}

func FuzzPolicy(f *testing.F) {
	f.Add([]byte(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":["arn:aws:iam::t:user/u"]},"Action":["sns:*"],"Resource":"arn:aws:sns:*"}]}`), "arn:aws:iam::t:user/u", "sns:Publish", topicARN)
	f.Add([]byte(`{"Statement":{"Effect":"Deny","NotPrincipal":"*","NotAction":"a*b*c*","NotResource":"?","Condition":{"a":{"b":1}}}}`), "", "", "")
	f.Fuzz(func(t *testing.T, doc []byte, who, action, resource string) {
		p, err := ParsePolicy(doc)
		if err != nil {
			if code(err) != CodeMalformedPolicy {
				t.Fatal(err)
			}
			return
		}
		got := p.Evaluate(PolicyRequest{[]string{who}, action, resource})
		if got == Allow && !strings.Contains(string(doc), "A") && !strings.Contains(string(doc), `\u`) {
			t.Errorf("allowed by %s", doc)
		}
	})
}
