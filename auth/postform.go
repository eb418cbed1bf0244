package auth

import (
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"strings"
	"time"
)

// Form is what a browser-based upload (POST Object) says before its file: the
// values of its fields, by their names in lower case. Of the file itself it has
// the name.
type Form map[string]string

// Key is the field key, in which ${filename} stands for the name that the file
// has with the user.
func (f Form) Key() string {
	name := f["file"]
	if i := strings.LastIndexAny(name, `/\`); i >= 0 {
		name = name[i+1:] // some browsers send a path
	}
	return strings.ReplaceAll(f["key"], "${filename}", name)
}

// VerifyForm finds out who signed a form's policy, and checks that the policy
// allows its fields. bucket is the one that the form was sent to, as
// "tenant:bucket" if its URL names it so; the signer's own tenant goes without
// saying. A form without a policy is anonymous, and its policy allows any length.
// Errors: *Error; any other error is the store's.
func (v *Verifier) VerifyForm(r *http.Request, form Form, bucket string) (Identity, *PostPolicy, error) {
	text, ok := form["policy"]
	if !ok {
		return Identity{}, &PostPolicy{maxLength: -1}, nil
	}
	id, err := v.formSigner(r, form, text)
	if err != nil {
		return Identity{}, nil, err
	}
	doc, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return Identity{}, nil, refuse(CodeInvalidPolicyDocument, "the policy is not in base64")
	}
	p, err := parsePostPolicy(doc)
	if err != nil {
		return Identity{}, nil, err
	}
	if !v.opts.Now().Before(p.expiration) {
		return Identity{}, nil, refuse(CodeAccessDenied, "Invalid according to Policy: Policy expired.")
	}
	return id, p, p.check(form, strings.TrimPrefix(bucket, id.User.Tenant+":"))
}

// formSigner finds out who signed a policy, in either version.
func (v *Verifier) formSigner(r *http.Request, form Form, policy string) (Identity, error) {
	if form["x-amz-security-token"] != "" {
		return Identity{}, errToken()
	}
	var accessKey, given string
	var expect func(Key) string
	if _, v4 := form["x-amz-algorithm"]; v4 {
		sig, err := v.formSignature4(form)
		if err != nil {
			return Identity{}, err
		}
		accessKey, given = sig.accessKey, strings.ToLower(sig.signature)
		expect = func(key Key) string {
			derived := deriveKey(key.SecretKey, sig.date, sig.region, sig.service)
			sum := hmacSum(derived, []byte(policy))
			return hex.EncodeToString(sum[:])
		}
	} else {
		accessKey, given = form["awsaccesskeyid"], form["signature"]
		expect = func(key Key) string { return sign2(key.SecretKey, policy) }
	}
	for name, value := range map[string]string{"AWSAccessKeyId": accessKey, "signature": given} {
		if value == "" {
			return Identity{}, errFormField(name)
		}
	}
	id, key, err := v.authenticate(r, accessKey)
	if err != nil {
		return Identity{}, err
	}
	if !equalSignatures(expect(key), given) {
		return Identity{}, refuse(CodeSignatureDoesNotMatch,
			"the signature is not the one that the gateway calculates from the policy and the secret key",
			Detail{"AWSAccessKeyId", accessKey}, Detail{"StringToSign", policy}, Detail{"SignatureProvided", given})
	}
	return id, id.admit()
}

func errFormField(name string) *Error {
	return refuse(CodeInvalidArgument, "a form with a policy needs the field '"+name+"'",
		Detail{"ArgumentName", name}, Detail{"ArgumentValue", ""})
}

// formSignature4 reads the fields of a version 4 signature. What it may be used
// for, and until when, is the policy's matter.
func (v *Verifier) formSignature4(form Form) (*signature4, error) {
	for _, name := range [...]string{"x-amz-credential", "x-amz-date", "x-amz-signature"} {
		if form[name] == "" {
			return nil, errFormField(name)
		}
	}
	sig := &signature4{signature: form["x-amz-signature"], timestamp: form["x-amz-date"], presigned: true}
	if form["x-amz-algorithm"] != algorithm4 {
		return nil, sig.malformed("x-amz-algorithm must be " + algorithm4)
	}
	if err := sig.parseCredential(form["x-amz-credential"]); err != nil {
		return nil, err
	}
	if want := v.opts.Region; want != "" && sig.region != want {
		return nil, sig.malformed("the region '"+sig.region+"' is wrong; expecting '"+want+"'", Detail{"Region", want})
	}
	if sig.service != serviceS3 {
		return nil, sig.malformed("the service '" + sig.service + "' is not served here; expecting 's3'")
	}
	if _, err := time.Parse(layout4, sig.timestamp); err != nil || !strings.HasPrefix(sig.timestamp, sig.date) {
		return nil, sig.malformed("x-amz-date must have the form YYYYMMDDTHHMMSSZ, and the credential's date")
	}
	return sig, nil
}
