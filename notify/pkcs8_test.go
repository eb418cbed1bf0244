package notify

import (
	"crypto/x509"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"herald/tests/certtest"
	"herald/tests/gatewaytest"
)

// TestPlainKey reads what OpenSSL encrypts.
func TestPlainKey(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		gatewaytest.Missing(t, "openssl")
	}
	_, plain := certtest.NewCA(t).Issue("key")
	want, err := os.ReadFile(plain)
	if err != nil {
		t.Fatal(err)
	}
	for _, how := range [][]string{
		{"-v2", "aes-128-cbc"}, {"-v2", "aes-192-cbc", "-v2prf", "hmacWithSHA1"}, {"-v2", "aes-256-cbc", "-v2prf", "hmacWithSHA512"}, {},
	} {
		file := filepath.Join(t.TempDir(), "encrypted.pem")
		args := append([]string{"pkcs8", "-topk8", "-in", plain, "-out", file, "-passout", "pass:secret"}, how...)
		if out, err := exec.Command(openssl, args...).CombinedOutput(); err != nil {
			t.Fatalf("openssl %q: %v\n%s", args, err, out)
		}
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		got, err := plainKey(data, "secret")
		if err != nil || string(got) != string(want) {
			t.Errorf("%q: %v\n%s", how, err, got)
		}
		if _, err := plainKey(data, "wrong"); err == nil {
			got, _ := plainKey(data, "wrong")
			if block, _ := pem.Decode(got); block == nil || parses(block.Bytes) {
				t.Errorf("%q: a wrong password is right", how)
			}
		}
	}
	if got, err := plainKey(want, ""); err != nil || string(got) != string(want) {
		t.Errorf("a key that is not encrypted: %v", err)
	}
}

func parses(der []byte) bool {
	_, err := x509.ParsePKCS8PrivateKey(der)
	return err == nil
}

func FuzzDecryptPKCS8(f *testing.F) {
	f.Add([]byte{0x30, 0x10, 0x30, 0x0c}, []byte("secret"))
	f.Fuzz(func(t *testing.T, der, password []byte) {
		_, _ = decryptPKCS8(der, password) // must return
	})
}
