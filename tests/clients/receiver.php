<?php
// A receiver of webhooks on PHP's built-in server (`php -S`). It looks headers up as their specifications spell them, as
// programs do that take getallheaders() for a plain array. What its signatures are made with is in the query. 204 for a request
// that verifies; otherwise 401, and the names of the headers that came.

$headers = getallheaders();
$body = file_get_contents('php://input');

function verifies(array $headers, string $body): bool
{
    if (isset($_GET['key'])) {
        return ($headers['X-Pusher-Key'] ?? '') === $_GET['key']
            && hash_equals(hash_hmac('sha256', $body, $_GET['secret']), $headers['X-Pusher-Signature'] ?? '');
    }
    $secret = base64_decode(substr($_GET['secret'] ?? '', strlen('whsec_')));
    $signed = ($headers['webhook-id'] ?? '') . '.' . ($headers['webhook-timestamp'] ?? '') . '.' . $body;
    $expected = 'v1,' . base64_encode(hash_hmac('sha256', $signed, $secret, true));
    return isset($headers['webhook-id'], $headers['webhook-timestamp'])
        && in_array($expected, explode(' ', $headers['webhook-signature'] ?? ''), true);
}

if ($_SERVER['REQUEST_METHOD'] !== 'POST') {
    http_response_code(204);
} elseif (verifies($headers, $body)) {
    http_response_code(204);
} else {
    http_response_code(401);
    echo implode(', ', array_keys($headers));
}
