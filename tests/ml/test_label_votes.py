"""Which labels cheap heads doubt: on scikit-learn's digits, pixels as vectors, with labels changed on purpose."""

import pytest
import torch
from sklearn.datasets import load_digits

from training import label_votes

CLASSES = 10


@pytest.fixture(scope="module")
def digits():
    images = load_digits()
    return torch.tensor(images.data).float(), torch.tensor(images.target).long()


def planted(labels, share, seed=0):
    """Labels of which a share became others, and which ones."""
    draw = torch.Generator().manual_seed(seed)
    wrong = torch.randperm(len(labels), generator=draw)[: round(share * len(labels))]
    changed = labels.clone()
    changed[wrong] = (labels[wrong] + torch.randint(1, CLASSES, (len(wrong),), generator=draw)) % CLASSES
    return changed, set(wrong.tolist())


def found(vectors, labels):
    return label_votes.vote(vectors, labels, CLASSES).suspects(labels).tolist()


@pytest.fixture(scope="module", params=[0.05, 0.1])
def spoilt(request, digits):
    """Labels, which of them are wrong, and the votes."""
    labels, wrong = planted(digits[1], request.param)
    return labels, wrong, label_votes.vote(digits[0], labels, CLASSES)


def test_planted_labels_are_found(spoilt):
    labels, wrong, votes = spoilt
    suspects = set(votes.suspects(labels).tolist())
    assert len(suspects & wrong) >= 0.9 * len(wrong)
    assert len(suspects & wrong) >= 0.8 * len(suspects)  # pixels know little; bench/labels.py has a network's vectors


def test_clean_labels_are_rarely_doubted(digits):
    assert len(found(*digits)) <= 10


def test_the_surest_come_first(spoilt):
    labels, wrong, votes = spoilt
    suspects = votes.suspects(labels).tolist()
    half = len(suspects) // 2
    assert len(wrong.intersection(suspects[:half])) >= 0.97 * half


def test_what_is_likely_is_told(digits, spoilt):
    labels, wrong, votes = spoilt
    caught = [index for index in votes.suspects(labels).tolist() if index in wrong]
    assert sum(int(votes.likely[index] == digits[1][index]) for index in caught) >= 0.95 * len(caught)


def test_votes_are_the_same_twice(digits, spoilt):
    labels, _, votes = spoilt
    again = label_votes.vote(digits[0], labels, CLASSES)
    assert torch.equal(votes.gap, again.gap) and torch.equal(votes.likely, again.likely)


def test_a_sample_of_images_suffices(digits, monkeypatch):
    monkeypatch.setattr(label_votes, "LANDMARKS", 200)
    monkeypatch.setattr(label_votes, "REFERENCES", 600)
    labels, wrong = planted(digits[1], 0.05)
    assert len(set(found(digits[0], labels)) & wrong) >= 0.85 * len(wrong)


def test_small_classes_are_not_judged(digits):
    vectors, labels = digits
    few = (labels == 3).nonzero()[label_votes.FEWEST - 1 :, 0]
    kept = torch.ones(len(labels), dtype=torch.bool)
    kept[few] = False
    votes = label_votes.vote(vectors[kept], labels[kept], CLASSES)
    assert votes.judged.tolist() == [label != 3 for label in range(CLASSES)]
    assert 3 not in labels[kept][votes.suspects(labels[kept])]


def test_classes_that_nobody_knows_are_not_judged(digits):
    """Two names for the same thing: the heads cannot tell them apart, so no label of theirs is wrong by them."""
    vectors, labels = digits
    labels = labels.clone()
    same = (labels == 4).nonzero()[:, 0]
    labels[same[torch.rand(len(same), generator=torch.Generator().manual_seed(1)) < 0.3]] = 5
    labels[(digits[1] == 5).nonzero()[:, 0]] = 6  # nothing but fours is called 5 now
    votes = label_votes.vote(vectors, labels, CLASSES)
    assert not votes.judged[5] and votes.judged[4]
    assert 5 not in labels[votes.suspects(labels)]


@pytest.mark.parametrize("count", [1, 2, 3, 12])
def test_a_handful_of_images_is_no_error(count):
    vectors, labels = torch.ones(count, 3), torch.arange(count) % 2
    assert label_votes.vote(vectors, labels, 2).suspects(labels).tolist() == []
