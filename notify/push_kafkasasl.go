package notify

import (
	"errors"
	"fmt"
	"net/url"

	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/oauth"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

// The arguments of SASL (RGW's names).
const (
	argMechanism         = "mechanism" // default PLAIN, if there is a user
	argUserName          = "user-name" // these two come before those of the URL
	argPassword          = "password"
	argTokenURL          = "sasl-oauthbearer-token-endpoint-url"
	argTokenID           = "sasl-oauthbearer-client-id"
	argTokenSecret       = "sasl-oauthbearer-client-secret"
	argTokenScope        = "sasl-oauthbearer-scope"
	argKerberosService   = "sasl-kerberos-service-name"
	argKerberosPrincipal = "sasl-kerberos-principal"
	argKerberosKeytab    = "sasl-kerberos-keytab"
)

// saslMechanism is how the gateway tells who it is; nil: it does not.
func saslMechanism(e Endpoint, u *url.URL) (sasl.Mechanism, error) {
	user, password := e.Arg(argUserName), e.Arg(argPassword)
	if user == "" && password == "" && u.User != nil {
		user = u.User.Username()
		password, _ = u.User.Password()
	}
	mechanism := e.Arg(argMechanism)
	switch mechanism {
	case "OAUTHBEARER":
		source, err := newTokenSource(e)
		if err != nil {
			return nil, err
		}
		return oauth.Oauth(source.auth), nil
	case "GSSAPI":
		return nil, errors.New("mechanism GSSAPI is not supported")
	case "", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512":
	default:
		return nil, fmt.Errorf("mechanism %q is not known", mechanism)
	}
	switch {
	case user == "" && password == "" && mechanism == "":
		return nil, nil
	case user == "" || password == "":
		return nil, errors.New("user and password go together")
	case mechanism == "SCRAM-SHA-256":
		return scram.Auth{User: user, Pass: password}.AsSha256Mechanism(), nil
	case mechanism == "SCRAM-SHA-512":
		return scram.Auth{User: user, Pass: password}.AsSha512Mechanism(), nil
	}
	return plain.Auth{User: user, Pass: password}.AsMechanism(), nil
}
