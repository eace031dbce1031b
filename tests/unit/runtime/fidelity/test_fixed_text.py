"""The text behind every certificate must not change unnoticed."""

import hashlib

from workers.runtime.fidelity.text import fixed_text

SHA256 = "4efd3801c3b3cc8cc9b73ebf8e43e495e2bfee8987d0c107753e01603acca908"


def test_the_text_is_the_one_that_certificates_name():
    text = fixed_text()
    assert text.sha256 == SHA256
    assert hashlib.sha256(text.content.encode()).hexdigest() == SHA256


def test_the_text_has_prose_dialogue_lists_and_code():
    content = fixed_text().content
    assert len(content) > 8500
    assert all(part in content for part in ("```python", "```javascript", "```sql", "1. ", "- ", '\n\n"'))
