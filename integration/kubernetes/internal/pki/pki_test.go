package pki

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"strings"
	"testing"
)

func TestCertificatesAreForTheirSubjectsAndNobodyElse(t *testing.T) {
	authority, err := NewAuthority("one")
	if err != nil {
		t.Fatal(err)
	}
	other, err := NewAuthority("other")
	if err != nil {
		t.Fatal(err)
	}
	pair, err := authority.Issue(Subject{User: "system:node:node1", Groups: []string{"system:nodes"}, Names: []string{"node1"}, Addresses: []string{"172.30.0.1"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tls.X509KeyPair(pair.Certificate, pair.Key); err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(pair.Certificate)
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if certificate.Subject.CommonName != "system:node:node1" || strings.Join(certificate.Subject.Organization, " ") != "system:nodes" {
		t.Errorf("the subject is %v", certificate.Subject)
	}
	verify := func(by *Authority, name string) error {
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(by.Certificate)
		_, err := certificate.Verify(x509.VerifyOptions{Roots: roots, DNSName: name, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
		return err
	}
	for _, name := range []string{"node1", "172.30.0.1"} {
		if err := verify(authority, name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if verify(authority, "node2") == nil || verify(other, "node1") == nil {
		t.Error("it is good for another name or in another cluster")
	}
	if _, err := authority.Issue(Subject{User: "x", Addresses: []string{"node1"}}); err == nil {
		t.Error("a name is taken for an address")
	}
}
