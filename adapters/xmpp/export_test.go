package xmpp

// Unescape is for the test that it undoes Node.
var Unescape = unescape
