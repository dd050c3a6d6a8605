"""A short text in both languages, over which models are compared if nobody names another."""

TEXT = """\
The ferry left the harbour at seven in the morning. On deck an old man was reading a newspaper from the day before, \
and two children counted the gulls that followed the ship: eleven, twelve, then none, because the cook had closed the \
kitchen window. "We will be there at noon," said the captain, "if the wind does not turn." It did turn, of course.

The sum of the first ten odd numbers is 100, since 1 + 3 + 5 + ... + 19 = 10 * 10. In Python: sum(range(1, 20, 2)).

할머니는 장날이면 새벽에 일어나 두부를 만드셨다. 불린 콩을 맷돌에 갈고, 가마솥에 끓이고, 간수를 조금씩 넣으면 하얀 \
덩어리가 구름처럼 떠올랐다. "뜨거울 때 먹어야 제맛이지." 우리는 김이 나는 두부에 간장을 찍어 먹고 학교에 갔다.

서울에서 부산까지는 기차로 두 시간 반쯤 걸린다. 창밖으로 논과 강이 지나가고, 터널을 나오면 바다가 보인다.
"""
